package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// Repositories of the scenes.
const (
	here  = "library/here"
	other = "library/other"
)

// sample is a blob that scenes are about, and the size of parts that it is
// pushed in.
type sample struct {
	name  string
	p     []byte
	named digest.Digest
	part  int64
}

const inlineMax = 256

// samples are the kinds of blobs. They are small, since scenes are many; only
// the last one has a tail that is worth freeing, which takes a long part.
func samples(alg digest.Algorithm) []sample {
	var all []sample
	for i, s := range []struct {
		name string
		size int
		part int64
	}{
		{"inline", inlineMax, 1 << 10},
		{"one part", inlineMax + 1, 1 << 10},
		{"parts", 2500, 1 << 10},
		{"long parts", (68 + 66) << 10, 68 << 10},
	} {
		p := randomBytes(uint64(1000+i), s.size)
		all = append(all, sample{s.name, p, alg.FromBytes(p), s.part})
	}
	return all
}

func (b sample) digest() digest.Digest { return digest.FromBytes(b.p) }

func (b sample) inline() bool { return len(b.p) <= inlineMax }

// situation is what a push or mount finds.
type situation struct {
	name   string
	inline bool // it is one that inline blobs can be in
	set    func(ctx context.Context, w *world, b sample) error
}

var situations = []situation{
	{"fresh", true, func(context.Context, *world, sample) error { return nil }},
	{"elsewhere", true, func(ctx context.Context, w *world, b sample) error { return w.pushed(ctx, other, b) }},
	{"here already", true, func(ctx context.Context, w *world, b sample) error { return w.pushed(ctx, here, b) }},
	{"linked in an earlier life", true, func(ctx context.Context, w *world, b sample) error {
		if err := w.pushed(ctx, here, b); err != nil {
			return err
		}
		if err := w.forget(ctx, b); err != nil {
			return err
		}
		return w.pushed(ctx, other, b)
	}},
	{"condemned", true, inState(condemned)},
	{"condemned, its data gone", false, func(ctx context.Context, w *world, b sample) error {
		if err := inState(condemned)(ctx, w, b); err != nil {
			return err
		}
		return w.spoil(ctx, b, nil)
	}},
	{"damaged", true, func(ctx context.Context, w *world, b sample) error {
		if err := inState(damaged)(ctx, w, b); err != nil || b.inline() {
			return err
		}
		return w.spoil(ctx, b, bytes.Repeat([]byte("x"), len(b.p)))
	}},
	{"unverified", true, inState(unverified)},
	{"adopted", false, func(ctx context.Context, w *world, b sample) error {
		at := foreignPrefix + "registry/v2/blobs/sha256/ab/abc/data"
		if _, err := w.bucket.Create(ctx, at, drivers.NewBody([]byte("whatever it is"))); err != nil {
			return err
		}
		if err := inState(unverified)(ctx, w, b); err != nil {
			return err
		}
		return w.rewrite(ctx, b, func(r *record) { r.Data = at })
	}},
	{"live, its data gone", false, func(ctx context.Context, w *world, b sample) error {
		if err := w.pushed(ctx, other, b); err != nil {
			return err
		}
		return w.spoil(ctx, b, nil)
	}},
	{"live, its data cut short", false, func(ctx context.Context, w *world, b sample) error {
		if err := w.pushed(ctx, other, b); err != nil {
			return err
		}
		return w.spoil(ctx, b, b.p[:len(b.p)-1])
	}},
}

func inState(s state) func(ctx context.Context, w *world, b sample) error {
	return func(ctx context.Context, w *world, b sample) error {
		if err := w.pushed(ctx, other, b); err != nil {
			return err
		}
		return w.rewrite(ctx, b, func(r *record) { r.State = s })
	}
}

// pushed has the blob pushed, without faults.
func (w *world) pushed(ctx context.Context, repository string, b sample) error {
	_, err := w.client(ctx).push(ctx, byPut, repository, b.p, b.named)
	return err
}

// rewrite changes the blob's record and its links, as the collector, scrub and
// adopt do, and so the blob is no longer one that the ledger can vouch for.
func (w *world) rewrite(ctx context.Context, b sample, change func(*record)) error {
	w.ledger = ledger{}
	for o, err := range w.bucket.List(ctx, (layout{}).blob(b.digest()), "") {
		if err != nil {
			return err
		}
		s, err := envelope.Read[record](ctx, w.bucket, o.Key)
		if err != nil {
			return err
		}
		isLink := strings.Contains(o.Key, "links/")
		if change(&s.Value); isLink && s.Value.State == condemned {
			err = w.bucket.Delete(ctx, o.Key) // only what has no link is condemned
		} else {
			_, err = envelope.Replace(ctx, w.bucket, o.Key, s.Object.Tag, s.Value, drivers.NewBody(s.Raw))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forget takes the record away, as the collector does.
func (w *world) forget(ctx context.Context, b sample) error {
	w.ledger, w.forgot = ledger{}, true
	return w.bucket.Delete(ctx, layout{}.record(b.digest()))
}

// spoil puts other bytes, or none, in the place of the blob's data.
func (w *world) spoil(ctx context.Context, b sample, by []byte) error {
	w.ledger = ledger{}
	r, err := envelope.Read[record](ctx, w.bucket, layout{}.record(b.digest()))
	if err != nil {
		return err
	}
	w.lost[r.Value.Data] = true
	if by == nil {
		return w.bucket.Delete(ctx, r.Value.Data)
	}
	o, err := w.bucket.Stat(ctx, r.Value.Data)
	if err != nil {
		return err
	}
	_, err = w.bucket.Replace(ctx, r.Value.Data, o.Tag, drivers.NewBody(by))
	return err
}

// published says that a repository has the blob, and that no data was lost
// track of on the way: what a record named before, and doesn't now, is in the
// dead list.
func (w *world) published(ctx context.Context, repository string, b sample) error {
	s := w.first
	if _, hit := w.faulty.Hit(); hit && w.fate.dead {
		s = w.second
	}
	name, err := reference.WithName(repository)
	if err != nil {
		return err
	}
	got, err := s.Repository(name).Get(ctx, b.named)
	if err != nil || !bytes.Equal(got, b.p) {
		return fmt.Errorf("get %s of %s: %d bytes, %w", b.named, repository, len(got), err)
	}
	r, err := envelope.Read[record](ctx, w.bucket, layout{}.record(b.digest()))
	if err != nil {
		return err
	}
	l, err := envelope.Read[record](ctx, w.bucket, layout{}.link(b.digest(), repository))
	if err != nil {
		return err
	}
	if r.Value.State != live || !r.Value.Agrees(l.Value) {
		return fmt.Errorf("the record is %+v, and the link %+v", r.Value, l.Value)
	}
	dead := map[string]bool{}
	for o, err := range w.bucket.List(ctx, "meta/dead/", "") {
		if err != nil {
			return err
		}
		e, err := envelope.Read[deadData](ctx, w.bucket, o.Key)
		if err != nil {
			return err
		}
		if dead[e.Value.Data] = true; !strings.HasPrefix(e.Value.Data, drivers.BulkPrefix) {
			return fmt.Errorf("the dead list has %s, which is not berth's", e.Value.Data)
		}
	}
	for key := range w.lost {
		if key != r.Value.Data && !dead[key] {
			return fmt.Errorf("nothing names %s, and it is not in the dead list", key)
		}
	}
	return nil
}

// scenes are all that clients do. Where two differ in nothing that the code
// looks at, one stands for both.
func scenes() []scene {
	all := fewScenes()
	for _, b := range samples(digest.SHA256) {
		if b.name == "long parts" {
			continue
		}
		all = append(all, pushScene(byPost, situations[0], b))
		for _, at := range situations[1:] {
			if b.inline() && !at.inline {
				continue
			}
			all = append(all, pushScene(byPut, at, b), pushScene(byPatch, at, b))
			if !strings.HasPrefix(at.name, "live") { // a mount does not look at the data of a live record
				all = append(all, mountScene(at, b))
			}
		}
		all = append(all, againScenes(b, byPut, byPatch, byChunks)...)
	}
	for _, b := range samples(digest.SHA512)[:3] {
		for _, at := range situations[:3] {
			all = append(all, pushScene(byPut, at, b), pushScene(byPatch, at, b), mountScene(at, b))
		}
		all = append(all, deleteScene(b))
	}
	for _, b := range samples(digest.SHA512) {
		if b.name == "parts" {
			for _, at := range situations[1:] {
				all = append(all, pushScene(byUnannounced, at, b))
			}
			all = append(all, againScenes(b, byUnannounced)...)
		}
		all = append(all, pushScene(byUnannounced, situations[0], b))
	}
	return all
}

// fewScenes are those that another store may make a difference to.
func fewScenes() []scene {
	var all []scene
	for _, b := range samples(digest.SHA256) {
		for _, by := range []way{byPut, byPatch, byChunks} {
			all = append(all, pushScene(by, situations[0], b))
		}
		all = append(all, cancelScene(b), statusScene(b), deleteScene(b))
	}
	for _, b := range samples(digest.SHA512)[1:3] {
		all = append(all, refuseScene(b))
	}
	return all
}

func pushScene(by way, at situation, b sample) scene {
	return scene{
		part:   b.part,
		name:   fmt.Sprintf("push by %s/%s/%s %s", by, at.name, b.name, b.named.Algorithm()),
		before: func(ctx context.Context, w *world) error { return at.set(ctx, w, b) },
		do: func(ctx context.Context, w *world) error {
			_, err := w.client(ctx).push(ctx, by, here, b.p, b.named)
			return err
		},
		after: func(ctx context.Context, w *world) error { return w.published(ctx, here, b) },
	}
}

// refuseScene pushes a blob by the sha512 of other bytes, which the POST did not
// announce, and then by its own.
func refuseScene(b sample) scene {
	wrong := digest.SHA512.FromString("other bytes")
	return scene{
		part: b.part,
		name: "refuse/" + b.name,
		do: func(ctx context.Context, w *world) error {
			c := w.client(ctx)
			if _, err := c.push(ctx, byUnannounced, here, b.p, wrong); !isWrongDigest(err) {
				return fmt.Errorf("push by a wrong digest = %w, want an ErrBlobInvalidDigest", err)
			}
			_, err := c.push(ctx, byUnannounced, here, b.p, b.named)
			return err
		},
		after: func(ctx context.Context, w *world) error {
			if _, err := w.bucket.Stat(ctx, layout{}.alias(wrong)); !errors.Is(err, drivers.ErrNotFound) {
				return fmt.Errorf("stat of a false alias = %w, want ErrNotFound", err)
			}
			return w.published(ctx, here, b)
		},
	}
}

// mountScene mounts a blob, and pushes it if that is refused.
func mountScene(at situation, b sample) scene {
	return scene{
		part:   b.part,
		name:   fmt.Sprintf("mount/%s/%s %s", at.name, b.name, b.named.Algorithm()),
		before: func(ctx context.Context, w *world) error { return at.set(ctx, w, b) },
		do: func(ctx context.Context, w *world) error {
			err := w.client(ctx).mount(ctx, other, here, b.p, b.named)
			if errors.Is(err, ErrBlobUnknown) {
				_, err = w.client(ctx).push(ctx, byPut, here, b.p, b.named)
			}
			return err
		},
		after: func(ctx context.Context, w *world) error { return w.published(ctx, here, b) },
	}
}

// againScenes send a PUT again whose answer was lost, after the blob has come
// to all kinds of harm. Its data may be the session's own.
func againScenes(b sample, ways ...way) []scene {
	unlink := func(ctx context.Context, w *world) error {
		w.ledger = ledger{}
		return w.bucket.Delete(ctx, layout{}.link(b.digest(), here))
	}
	state := func(s state) func(ctx context.Context, w *world) error {
		return func(ctx context.Context, w *world) error {
			return w.rewrite(ctx, b, func(r *record) { r.State = s })
		}
	}
	var all []scene
	for name, harm := range map[string]func(ctx context.Context, w *world) error{
		"there":      func(context.Context, *world) error { return nil },
		"unlinked":   unlink,
		"condemned":  state(condemned),
		"damaged":    state(damaged),
		"unverified": state(unverified),
		"forgotten": func(ctx context.Context, w *world) error {
			return errors.Join(unlink(ctx, w), w.forget(ctx, b))
		},
		"link without a record": func(ctx context.Context, w *world) error { return w.forget(ctx, b) },
		"healed by another": func(ctx context.Context, w *world) error {
			return errors.Join(state(damaged)(ctx, w), w.pushed(ctx, other, b))
		},
	} {
		for _, by := range ways {
			all = append(all, scene{
				part: b.part,
				name: fmt.Sprintf("PUT again after %s/%s/%s", by, name, b.name),
				before: func(ctx context.Context, w *world) error {
					var err error
					if w.session, err = w.client(ctx).push(ctx, by, here, b.p, b.named); err != nil {
						return err
					}
					return harm(ctx, w)
				},
				do: func(ctx context.Context, w *world) error {
					err := w.client(ctx).finish(ctx, by, w.session)
					if errors.Is(err, ErrBlobUploadUnknown) {
						_, err = w.client(ctx).push(ctx, by, here, b.p, b.named)
					}
					return err
				},
				after: func(ctx context.Context, w *world) error { return w.published(ctx, here, b) },
			})
		}
	}
	return all
}

// begun makes the session one that has all the blob's bytes.
func begun(b sample) func(ctx context.Context, w *world) error {
	return func(ctx context.Context, w *world) error {
		c := w.client(ctx)
		w.session = session{repository: here, p: b.p, named: b.named}
		if err := c.start(byPatch, &w.session); err != nil {
			return err
		}
		return c.send(ctx, byPatch, &w.session)
	}
}

func cancelScene(b sample) scene {
	return scene{
		part:   b.part,
		name:   "cancel/" + b.name,
		before: begun(b),
		do:     func(ctx context.Context, w *world) error { return w.client(ctx).cancel(ctx, w.session) },
		after: func(ctx context.Context, w *world) error {
			w.asked = 0
			c := w.client(ctx)
			again := w.session
			again.Size = 0
			for name, err := range map[string]error{
				"PATCH":  c.send(ctx, byPatch, &again),
				"PUT":    c.finish(ctx, byPatch, w.session),
				"status": c.status(ctx, &w.session),
				"cancel": c.do(here, func(r *Repository) error { return r.CancelUpload(ctx, w.session.ID, w.session.State) }),
			} {
				if !errors.Is(err, ErrBlobUploadUnknown) {
					return fmt.Errorf("%s = %w, want ErrBlobUploadUnknown", name, err)
				}
			}
			return nil
		},
	}
}

func statusScene(b sample) scene {
	return scene{
		part:   b.part,
		name:   "status/" + b.name,
		before: begun(b),
		do: func(ctx context.Context, w *world) error {
			w.session.Size = -1
			if err := w.client(ctx).status(ctx, &w.session); err != nil {
				return err
			}
			if w.session.Size != int64(len(b.p)) {
				return fmt.Errorf("%d bytes are safe, want %d", w.session.Size, len(b.p))
			}
			return w.client(ctx).finish(ctx, byPatch, w.session)
		},
		after: func(ctx context.Context, w *world) error { return w.published(ctx, here, b) },
	}
}

// deleteScene deletes a blob and pushes it again. What is late of the deletion
// must not take the new link away.
func deleteScene(b sample) scene {
	return scene{
		part: b.part,
		name: fmt.Sprintf("delete/%s %s", b.name, b.named.Algorithm()),
		before: func(ctx context.Context, w *world) error {
			return errors.Join(w.pushed(ctx, here, b), w.pushed(ctx, other, b))
		},
		do: func(ctx context.Context, w *world) error {
			c := w.client(ctx)
			read := func() error {
				return c.do(here, func(r *Repository) error { _, err := r.Stat(ctx, b.named); return err })
			}
			if err := read(); err != nil { // it is cached now
				return err
			}
			if err := c.delete(ctx, here, b.p, b.named); err != nil {
				return err
			}
			if err := read(); !errors.Is(err, ErrBlobUnknown) {
				return fmt.Errorf("stat of a deleted blob = %w, want ErrBlobUnknown", err)
			}
			_, err := c.push(ctx, byPut, here, b.p, b.named)
			return err
		},
		after: func(ctx context.Context, w *world) error {
			return errors.Join(w.published(ctx, here, b), w.published(ctx, other, b))
		},
	}
}
