package blobstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// Attacks on deduplication, links, mount and delete: interleavings that would
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

func leave(t *testing.T, run *simRun, state, repo string, p []byte) {
	t.Helper()
	must(t, stateNamed(state).leave(run.replica(t), repo, p))
}

// A blob was deleted and condemned, and the client that pushed it PUTs again:
// its data are the record's. The record is revived before the link is written.
func TestAttack15PutAgainOntoCondemned(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 600)
		c := run.replica(t)
		u, err := c.in(repoA).StartUpload("")
		must(t, err)
		u, err = c.patch(repoA, u, p[:400])
		must(t, err)
		must(t, c.put(repoA, u, p[400:], p))
		must(t, c.delete(repoA, p))
		err = edit(run.Ctx, run.Bucket, catalog.RecordKey(digest.FromBytes(p)), func(r *record) { r.State = condemned })
		must(t, err)

		var calls drivertest.Counter
		must(t, run.replica(t, calls.Intercept).put(repoA, u, p[400:], p))
		if s := readRecord(t, run, p); s.Value.State != live {
			t.Errorf("the record is %s, want live", s.Value.State)
		}
		var writes []string
		for _, c := range calls.Calls() {
			if strings.HasPrefix(c.Key, catalog.BlobsPrefix) && c.Writes() {
				writes = append(writes, c.Method+" "+c.Key[strings.LastIndex(c.Key, "/")+1:])
			}
		}
		if want := []string{"Create record", "Replace record", "Create library!a"}; !slices.Equal(writes, want) {
			t.Errorf("writes %q, want %q", writes, want)
		}
	})
}

// Bytes that can't be trusted are never linked: a push keeps its own, and enters
// the old ones in the dead list before the record ceases to name them. Bytes
// that another registry left are never entered.
func TestAttack16PushOntoDamagedOrUnverified(t *testing.T) {
	for _, state := range []string{"damaged", "unverified", "unverified, adopted"} {
		for size, n := range blobSizes() {
			if state == "unverified, adopted" && size == "inline" {
				continue
			}
			t.Run(state+"/"+size, func(t *testing.T) {
				onEveryDriver(t, func(t *testing.T, run *simRun) {
					p := randomBytes(1, n)
					leave(t, run, state, repoB, p)
					old := readRecord(t, run, p).Value

					listed := false
					watch := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
						if c.Method == "Replace" && strings.HasSuffix(c.Key, "/record") {
							listed = slices.Contains(deadKeys(t, run), old.Data)
						}
						return do(ctx)
					}
					must(t, run.replica(t, watch).push(repoA, p))
					now := readRecord(t, run, p).Value
					if now.State != live || now.ID != old.ID || n > tinyInline && now.Data == old.Data {
						t.Errorf("the record is %+v, and was %+v", now, old)
					}
					if want := strings.HasPrefix(old.Data, drivers.BulkPrefix); listed != want {
						t.Errorf("the old data key %q was in the dead list before the record was replaced: %v, want %v", old.Data, listed, want)
					}

					// The other repository's link still leads to the old bytes. A
					// push there, which finds the blob live, heals it, as does a
					// mount.
					must(t, run.replica(t).push(repoB, p))
					if l := readLink(t, run, repoB, p).Value; !now.Agrees(l) {
						t.Errorf("the other repository's link is %+v, want that of %+v", l, now)
					}
				})
			})
		}
	}
}

// The record is live, and its bytes are gone or cut short.
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
						t.Errorf("a blob of %d bytes: the record still names the lost data", n)
					}
				}
			})
		})
	}
}

// A link from an earlier life of the record says nothing about this one.
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
					err := edit(run.Ctx, run.Bucket, catalog.RecordKey(digest.FromBytes(p)), func(r *record) { r.ID = catalog.NewID() })
					must(t, err)
					must(t, request(run.replica(t)))
					if l, r := readLink(t, run, repoA, p).Value, readRecord(t, run, p).Value; !r.Agrees(l) {
						t.Errorf("the link is %+v, want that of %+v", l, r)
					}
				}
			})
		})
	}
}

// A DELETE is late: it was repeated, and the blob was pushed again.
func TestAttack19LateDelete(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		for i, n := range []int{40, 600} {
			p := randomBytes(uint64(i), n)
			must(t, run.replica(t).push(repoA, p))
			late := &drivertest.Faulty{Mode: drivertest.Late, Nth: 1, Match: sim.On("DeleteIf", "links/")}
			if err := run.replica(t, late.Intercept).delete(repoA, p); !errors.Is(err, drivertest.ErrInjected) {
				t.Fatalf("delete = %v, want it to fail", err)
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

// A push by sha512 is killed after it bound its parts to the digest, and another
// client pushes the same bytes by sha256. The first one, asked again, may not
// say that the blob is there by sha512 before that is so.
func TestAttack20AliasOfAnotherPush(t *testing.T) {
	for _, other := range []string{repoA, repoB} {
		t.Run(other, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := randomBytes(1, 600)
				d := digest.SHA512.FromBytes(p)
				u, err := run.replica(t).in(repoA).StartUpload(digest.SHA512)
				must(t, err)
				if err := run.replica(t, sim.Dying(drivertest.Unanswered, sim.On("Create", "uploads/"))).putAs(repoA, u, p, p, d); err == nil {
					t.Fatal("the first push was not killed")
				}
				must(t, run.replica(t).push(other, p))
				// That it was acknowledged, and can't be read by this digest,
				// is what the ledger would find.
				must(t, run.replica(t).putAs(repoA, u, p, p, d))
			})
		})
	}
}

// The collector is about to delete an alias that it found old and without a
// record, when a push and a mount come in.
func TestAttack21MountWhileAliasIsCollected(t *testing.T) {
	for _, at := range []string{"", "Open aliases/", "Replace aliases/", "Create links/library!a"} {
		t.Run("before "+at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				onS3(t, func(t *testing.T, run *simRun) {
					p := randomBytes(1, 40)
					d := digest.SHA512.FromBytes(p)
					must(t, run.replica(t).pushAs(repoB, p, d))
					must(t, run.replica(t).delete(repoB, p))
					must(t, run.Bucket.Delete(run.Ctx, catalog.RecordKey(digest.FromBytes(p)))) // collected
					time.Sleep(200 * time.Hour)
					// The collector reads the alias, asks for the record, and
					// finds none.
					old, err := run.Bucket.Stat(run.Ctx, catalog.AliasKey(d))
					must(t, err)
					collect := func() {
						if err := run.Bucket.DeleteIf(run.Ctx, old.Key, old.Tag); err != nil && !errors.Is(err, drivers.ErrChanged) {
							t.Error(err)
						}
					}
					must(t, run.replica(t).push(repoB, p))
					if at == "" {
						collect()
					}
					once := at == ""
					c := run.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
						if method, part, ok := strings.Cut(at, " "); ok && !once && sim.On(method, part)(c) {
							once = true
							collect()
						}
						return do(ctx)
					})
					switch err := c.mountAs(repoA, repoB, p, d); {
					case at == "" || at == "Open aliases/":
						if !errors.Is(err, ErrBlobUnknown) {
							t.Errorf("mount = %v, want ErrBlobUnknown", err)
						}
					case err != nil:
						t.Error(err)
					}
					if !once {
						t.Error("it made no such call")
					}
					collect() // late
				})
			})
		})
	}
}
