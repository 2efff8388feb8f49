package blobstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// Attacks on existing records, links, mount and delete: interleavings that would
// break a simpler protocol.

func readRecord(t *testing.T, run *simRun, p []byte) storedRecord {
	t.Helper()
	s, err := envelope.Read[record](run.Ctx, run.Bucket, catalog.RecordKey(digest.FromBytes(p)))
	must(t, err)
	return s
}

func readLink(t *testing.T, run *simRun, repo string, p []byte) storedRecord {
	t.Helper()
	s, err := envelope.Read[record](run.Ctx, run.Bucket, catalog.LinkKey(digest.FromBytes(p), repo))
	must(t, err)
	return s
}

// deadKeys returns the data keys of all dead entries.
func deadKeys(t *testing.T, run *simRun) []string {
	t.Helper()
	var keys []string
	for _, e := range run.inventory(t).Dead {
		keys = append(keys, e.Data)
	}
	return keys
}

// leave leaves a blob in one of the recordStates.
func leave(t *testing.T, run *simRun, state, repo string, p []byte) {
	t.Helper()
	must(t, stateNamed(state).leave(run.replica(t), repo, p))
}

// mutation returns a mutation of the blob p.
func (run *simRun) mutation(repo string, p []byte) *mutation {
	return &mutation{run, repo, digest.FromBytes(p)}
}

// TestAttack15PutAgainOntoCondemned repeats a PUT after its blob was deleted and
// condemned. The record's data is that of the session. The record is made live
// before the link is created.
func TestAttack15PutAgainOntoCondemned(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 600)
		c := run.replica(t)
		u := startSession(t, run, p[:400])[1]
		must(t, c.put(repoA, u, p[400:], p))
		must(t, c.delete(repoA, p))
		must(t, run.mutation(repoA, p).condemn())

		var calls drivertest.Counter
		must(t, run.replica(t, calls.Intercept).put(repoA, u, p[400:], p))
		if s := readRecord(t, run, p); s.Value.State != live {
			t.Errorf("the record is %s, want live", s.Value.State)
		}
		writes, want := catalogWrites(calls.Calls()), []string{"Create record", "Replace record", "Create link"}
		if !slices.Equal(writes, want) {
			t.Errorf("PUT writes %q, want %q", writes, want)
		}
	})
}

// TestAttack16PushOntoDamagedOrUnverified pushes a blob that exists with bytes that
// cannot be trusted. The push keeps its own bytes, and enters the old ones in the
// dead list before the record stops naming them, unless another registry has left
// them.
func TestAttack16PushOntoDamagedOrUnverified(t *testing.T) {
	for _, state := range []string{"damaged", "unverified", "unverified, adopted"} {
		for size, n := range blobSizes() {
			if !stateNamed(state).possible(size) {
				continue
			}
			t.Run(state+"/"+size, func(t *testing.T) {
				onEveryDriver(t, func(t *testing.T, run *simRun) {
					p := randomBytes(1, n)
					leave(t, run, state, repoB, p)
					pushReplacing(t, run, p)

					// The link of repoB still leads to the old bytes. A push there
					// finds a live record and replaces the link.
					must(t, run.replica(t).push(repoB, p))
					now := readRecord(t, run, p).Value
					if l := readLink(t, run, repoB, p).Value; !now.Agrees(l) {
						t.Errorf("the link of the other repository is %+v, want that of %+v", l, now)
					}
				})
			})
		}
	}
}

// pushReplacing pushes p, which must replace the data of the record.
func pushReplacing(t *testing.T, run *simRun, p []byte) {
	t.Helper()
	old := readRecord(t, run, p).Value
	listed := false
	watch := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if sim.On("Replace", "/record")(c) {
			listed = slices.Contains(deadKeys(t, run), old.Data)
		}
		return do(ctx)
	}
	must(t, run.replica(t, watch).push(repoA, p))
	now := readRecord(t, run, p).Value
	if now.State != live || now.ID != old.ID || now.Data != "" && now.Data == old.Data {
		t.Errorf("the record is %+v, and was %+v", now, old)
	}
	if want := strings.HasPrefix(old.Data, drivers.BulkPrefix); listed != want {
		t.Errorf("the old data key %q was dead before the record was replaced: %v, want %v", old.Data, listed, want)
	}
}

// TestAttack17DedupOntoLostData pushes a blob with a live record. Its bytes are
// gone or cut short.
func TestAttack17DedupOntoLostData(t *testing.T) {
	for _, state := range []string{"live, data gone", "live, data cut short"} {
		t.Run(state, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				for i, n := range []int{200, 600} { // one object, several parts
					p := randomBytes(uint64(i), n)
					leave(t, run, state, repoB, p)
					old := readRecord(t, run, p).Value
					must(t, run.replica(t).push(repoA, p))
					if now := readRecord(t, run, p).Value; now.Data == old.Data {
						t.Errorf("after a push of %d bytes the record names the lost data", n)
					}
				}
			})
		})
	}
}

// TestAttack18LinkOfAnotherLife gives the record another id, so that the link is
// from an earlier life. A push or mount replaces the link.
func TestAttack18LinkOfAnotherLife(t *testing.T) {
	for size, n := range blobSizes() {
		t.Run(size, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := randomBytes(1, n)
				for _, request := range []func(c *client) error{
					func(c *client) error { return c.push(repoA, p) },
					func(c *client) error { return c.pushByPatch(p) },
					func(c *client) error { return c.mount(repoA, repoB, p) },
				} {
					must(t, run.replica(t).push(repoA, p))
					must(t, run.replica(t).push(repoB, p))
					m := run.mutation(repoA, p)
					must(t, m.edit(m.recordKey(), func(r *record) { r.ID = catalog.NewID() }))
					must(t, request(run.replica(t)))
					if l, r := readLink(t, run, repoA, p).Value, readRecord(t, run, p).Value; !r.Agrees(l) {
						t.Errorf("the link is %+v, want that of %+v", l, r)
					}
				}
			})
		})
	}
}

// TestAttack19LateDelete makes a DELETE take effect after it was repeated and the
// blob was pushed again.
func TestAttack19LateDelete(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		for i, n := range []int{40, 600} {
			p := randomBytes(uint64(i), n)
			must(t, run.replica(t).push(repoA, p))
			late := &drivertest.Faulty{Mode: drivertest.Late, Nth: 1, Match: sim.On("DeleteIf", "links/")}
			if err := run.replica(t, late.Intercept).delete(repoA, p); !errors.Is(err, drivertest.ErrInjected) {
				t.Fatalf("delete = %v, want the injected error", err)
			}
			must(t, run.replica(t).delete(repoA, p))
			must(t, run.replica(t).push(repoA, p))
			if err := late.Land(run.Ctx); !errors.Is(err, drivers.ErrChanged) {
				t.Errorf("the late deletion = %v, want ErrChanged", err)
			}
			must(t, run.replica(t).get(p))
		}
	})
}

// TestAttack20AliasOfAnotherPush kills a push by sha512 after it has bound its parts
// to the digest. Another client pushes the same bytes by sha256. The first push is
// repeated, and must not be acknowledged before the alias exists: the ledger reads
// the blob by its sha512.
func TestAttack20AliasOfAnotherPush(t *testing.T) {
	for _, other := range []string{repoA, repoB} {
		t.Run(other, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := randomBytes(1, 600)
				d := digest.SHA512.FromBytes(p)
				u, err := run.replica(t).start(repoA, digest.SHA512)
				must(t, err)
				dying := run.replica(t, sim.Dying(drivertest.Unanswered, sim.On("Create", "uploads/")))
				if err := dying.putAs(repoA, u, p, p, d); err == nil {
					t.Fatal("the first push was not killed")
				}
				must(t, run.replica(t).push(other, p))
				must(t, run.replica(t).putAs(repoA, u, p, p, d))
			})
		})
	}
}

// TestAttack21MountWhileAliasIsCollected deletes an alias, as the collector does
// that has condemned it because there was no record, while a push and a mount arrive.
func TestAttack21MountWhileAliasIsCollected(t *testing.T) {
	for _, at := range []struct {
		name, method, part string // of the call of the mount before which the alias is deleted
		unknown            bool   // the mount finds no alias
	}{
		{"the mount", "", "", true},
		{"its read of the alias", "Open", "aliases/", true},
		{"it takes the mark off", "Replace", "aliases/", false},
		{"its link", "Create", "links/library!a", false},
	} {
		t.Run("before "+at.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				onS3(t, func(t *testing.T, run *simRun) {
					p := randomBytes(1, 40)
					collect := collectedAlias(t, run, p)
					done := at.method == ""
					if done {
						collect()
					}
					c := run.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
						if !done && sim.On(at.method, at.part)(c) {
							done = true
							collect()
						}
						return do(ctx)
					})
					err := c.mountAs(repoA, repoB, p, digest.SHA512.FromBytes(p))
					if at.unknown && !errors.Is(err, ErrBlobUnknown) || !at.unknown && err != nil {
						t.Errorf("mount = %v, want an error: %v", err, at.unknown)
					}
					if !done {
						t.Errorf("the mount makes no %s %s", at.method, at.part)
					}
					collect() // again, late
				})
			})
		})
	}
}

// collectedAlias leaves the blob p in repoB with an alias that the collector has
// condemned, and is about to delete, because it has found no record. It returns a function that
// deletes the alias in the version that the collector has read.
func collectedAlias(t *testing.T, run *simRun, p []byte) (collect func()) {
	t.Helper()
	d := digest.SHA512.FromBytes(p)
	must(t, run.replica(t).pushAs(repoB, p, d))
	must(t, run.replica(t).delete(repoB, p))
	must(t, run.Bucket.Delete(run.Ctx, catalog.RecordKey(digest.FromBytes(p))))
	condemnAlias(t, run.Bucket, d)
	old, err := run.Bucket.Stat(run.Ctx, catalog.AliasKey(d))
	must(t, err)
	must(t, run.replica(t).push(repoB, p))
	return func() {
		if err := run.Bucket.DeleteIf(run.Ctx, old.Key, old.Tag); err != nil && !errors.Is(err, drivers.ErrChanged) {
			t.Error(err)
		}
	}
}
