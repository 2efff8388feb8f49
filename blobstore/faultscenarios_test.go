package blobstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// faultScenarios returns everything that clients do. If two scenarios differ in nothing that
// the code distinguishes, one of them is left out.
func faultScenarios() []faultScenario {
	all := fewScenarios()
	at := situations()
	for _, b := range samples(digest.SHA256) {
		if b.name == "long parts" {
			continue
		}
		all = append(all, pushScenario(byPost, at[0], b))
		all = append(all, existingScenarios(at[1:], b)...)
		all = append(all, againScenarios(b, byPut, byPatch, byChunks)...)
	}
	for _, b := range samples(digest.SHA512)[:3] {
		for _, at := range at[:3] {
			all = append(all, pushScenario(byPut, at, b), pushScenario(byPatch, at, b), mountScenario(at, b))
		}
		all = append(all, deleteScenario(b))
	}
	for _, b := range samples(digest.SHA512) {
		all = append(all, pushScenario(byUnannounced, at[0], b))
		if b.name != "parts" {
			continue
		}
		for _, at := range at[1:] {
			all = append(all, pushScenario(byUnannounced, at, b))
		}
		all = append(all, againScenarios(b, byUnannounced)...)
	}
	return all
}

// existingScenarios returns pushes and mounts of a blob in situations in which it may
// exist. A mount does not read the data of a live record.
func existingScenarios(at []situation, b sample) []faultScenario {
	var all []faultScenario
	for _, at := range at {
		if b.inline() && at.hasData {
			continue
		}
		all = append(all, pushScenario(byPut, at, b), pushScenario(byPatch, at, b))
		if !strings.HasPrefix(at.name, "live,") {
			all = append(all, mountScenario(at, b))
		}
	}
	return all
}

// fewScenarios returns the scenarios in which other stores may make a difference.
func fewScenarios() []faultScenario {
	var all []faultScenario
	for _, b := range samples(digest.SHA256) {
		for _, by := range []way{byPut, byPatch, byChunks} {
			all = append(all, pushScenario(by, situations()[0], b))
		}
		all = append(all, cancelScenario(b), statusScenario(b), deleteScenario(b))
	}
	for _, b := range samples(digest.SHA512)[1:3] {
		all = append(all, refuseScenario(b))
	}
	return all
}

func pushScenario(by way, at situation, b sample) faultScenario {
	return faultScenario{
		name:   fmt.Sprintf("push by %s/%s/%s", by, at, b),
		part:   b.part,
		before: func(c *retrying) error { return at.prepare(c, b) },
		do: func(c *retrying) error {
			_, err := c.push(by, b.p, b.named)
			return err
		},
		after: func(c *retrying) error { return c.published(repoA, b) },
	}
}

// refuseScenario pushes a blob by the sha512 of other bytes, which the POST did not
// announce, and then by its own.
func refuseScenario(b sample) faultScenario {
	wrong := digest.SHA512.FromString("other bytes")
	return faultScenario{
		name: "refuse/" + b.name,
		part: b.part,
		do: func(c *retrying) error {
			if _, err := c.push(byUnannounced, b.p, wrong); !isWrongDigest(err) {
				return fmt.Errorf("push by a wrong digest = %w, want an ErrBlobInvalidDigest", err)
			}
			_, err := c.push(byUnannounced, b.p, b.named)
			return err
		},
		after: func(c *retrying) error {
			if _, err := c.run.Bucket.Stat(c.run.Ctx, catalog.AliasKey(wrong)); !errors.Is(err, drivers.ErrNotFound) {
				return fmt.Errorf("stat of a false alias = %w, want ErrNotFound", err)
			}
			return c.published(repoA, b)
		},
	}
}

// mountScenario mounts a blob, and pushes it if the mount is refused.
func mountScenario(at situation, b sample) faultScenario {
	return faultScenario{
		name:   fmt.Sprintf("mount/%s/%s", at, b),
		part:   b.part,
		before: func(c *retrying) error { return at.prepare(c, b) },
		do: func(c *retrying) error {
			err := c.mount(repoB, repoA, b.p, b.named)
			if errors.Is(err, ErrBlobUnknown) {
				_, err = c.push(byPut, b.p, b.named)
			}
			return err
		},
		after: func(c *retrying) error { return c.published(repoA, b) },
	}
}

// mishaps returns what may happen to a blob of repoA after its PUT.
func mishaps(b sample) map[string]func(c *retrying) error {
	change := func(f func(m *mutation) error) func(c *retrying) error {
		return func(c *retrying) error {
			c.run.Ledger.Forget()
			return f(c.mutation(repoA, b))
		}
	}
	damage := change(func(m *mutation) error { return m.mark(damaged)() })
	return map[string]func(c *retrying) error{
		"none":       func(*retrying) error { return nil },
		"unlinked":   change((*mutation).unlink),
		"condemned":  change((*mutation).condemn),
		"damaged":    damage,
		"unverified": change(func(m *mutation) error { return m.mark(unverified)() }),
		"collected":  change(func(m *mutation) error { return first(m.unlink, m.forget) }),
		"link only":  change((*mutation).forget),
		"damaged, then pushed elsewhere": func(c *retrying) error {
			return first(func() error { return damage(c) }, func() error { return pushAnd(c, repoB, b) })
		},
	}
}

// againScenarios repeat a PUT whose response was lost, after mishaps. The data of the
// blob may be the session's own.
func againScenarios(b sample, ways ...way) []faultScenario {
	var all []faultScenario
	for name, mishap := range mishaps(b) {
		for _, by := range ways {
			all = append(all, faultScenario{
				name: fmt.Sprintf("PUT again after %s/%s/%s", by, name, b.name),
				part: b.part,
				before: func(c *retrying) (err error) {
					if c.session, err = c.push(by, b.p, b.named); err != nil {
						return err
					}
					return mishap(c)
				},
				do: func(c *retrying) error {
					err := c.finish(by, c.session)
					if errors.Is(err, ErrBlobUploadUnknown) {
						_, err = c.push(by, b.p, b.named)
					}
					return err
				},
				after: func(c *retrying) error { return c.published(repoA, b) },
			})
		}
	}
	return all
}

// sent returns a function that starts a session and sends it all bytes of a blob.
func sent(b sample) func(c *retrying) error {
	return func(c *retrying) error {
		c.session = session{repository: repoA, p: b.p, named: b.named}
		if err := c.start(byPatch, &c.session); err != nil {
			return err
		}
		return c.send(byPatch, &c.session)
	}
}

func cancelScenario(b sample) faultScenario {
	return faultScenario{
		name:   "cancel/" + b.name,
		part:   b.part,
		before: sent(b),
		do:     func(c *retrying) error { return c.cancel(c.session) },
		after: func(c *retrying) error {
			c.requests = 0
			fresh := c.session
			fresh.Size = 0
			for name, err := range map[string]error{
				"PATCH":  c.send(byPatch, &fresh),
				"PUT":    c.finish(byPatch, c.session),
				"status": c.status(&c.session),
				"cancel": c.do(func(k *client) error { return k.cancel(repoA, c.session.Upload) }),
			} {
				if !errors.Is(err, ErrBlobUploadUnknown) {
					return fmt.Errorf("%s = %w, want ErrBlobUploadUnknown", name, err)
				}
			}
			return nil
		},
	}
}

func statusScenario(b sample) faultScenario {
	return faultScenario{
		name:   "status/" + b.name,
		part:   b.part,
		before: sent(b),
		do: func(c *retrying) error {
			c.session.Size = -1
			if err := c.status(&c.session); err != nil {
				return err
			}
			if c.session.Size != int64(len(b.p)) {
				return fmt.Errorf("status = %d bytes, want %d", c.session.Size, len(b.p))
			}
			return c.finish(byPatch, c.session)
		},
		after: func(c *retrying) error { return c.published(repoA, b) },
	}
}

// deleteScenario deletes a blob and pushes it again. A delete that takes effect late
// must not remove the new link.
func deleteScenario(b sample) faultScenario {
	stat := func(c *retrying) error {
		return c.do(func(c *client) error { _, err := c.in(repoA).Stat(c.ctx(), b.named); return err })
	}
	return faultScenario{
		name: fmt.Sprintf("delete/%s", b),
		part: b.part,
		before: func(c *retrying) error {
			return first(func() error { return pushAnd(c, repoA, b) }, func() error { return pushAnd(c, repoB, b) })
		},
		do: func(c *retrying) error {
			if err := stat(c); err != nil { // it is cached now
				return err
			}
			if err := c.delete(repoA, b.p, b.named); err != nil {
				return err
			}
			if err := stat(c); !errors.Is(err, ErrBlobUnknown) {
				return fmt.Errorf("stat of a deleted blob = %w, want ErrBlobUnknown", err)
			}
			_, err := c.push(byPut, b.p, b.named)
			return err
		},
		after: func(c *retrying) error {
			return errors.Join(c.published(repoA, b), c.published(repoB, b))
		},
	}
}

// published returns an error unless a repository has the blob, and unless all data
// keys that the record has named before are dead entries.
func (c *retrying) published(repository string, b sample) error {
	if err := c.get(repository, b.p, b.named); err != nil {
		return err
	}
	ctx, bucket := c.run.Ctx, c.run.Bucket
	r, err := envelope.Read[record](ctx, bucket, catalog.RecordKey(b.digest()))
	if err != nil {
		return err
	}
	l, err := envelope.Read[record](ctx, bucket, catalog.LinkKey(b.digest(), repository))
	if err != nil {
		return err
	}
	if r.Value.State != live || !r.Value.Agrees(l.Value) {
		return fmt.Errorf("the record is %+v, and the link %+v", r.Value, l.Value)
	}
	inv, err := c.run.Invariants.Read(ctx, bucket)
	if err != nil {
		return err
	}
	return deadExcept(c.run.Run, inv, r.Value.Data)
}

// deadExcept returns an error unless all lost data keys except data are dead
// entries.
func deadExcept(r *sim.Run, inv *sim.Inventory, data string) error {
	dead := map[string]bool{}
	for _, e := range inv.Dead {
		if dead[e.Data] = true; !strings.HasPrefix(e.Data, drivers.BulkPrefix) {
			return fmt.Errorf("dead entry of %s, which is not berth's", e.Data)
		}
	}
	for key := range r.Invariants.Lost {
		if key != data && !dead[key] {
			return fmt.Errorf("%s has neither a record nor a dead entry", key)
		}
	}
	return nil
}
