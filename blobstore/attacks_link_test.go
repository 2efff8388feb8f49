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
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// Attacks on deduplication, links, mount and delete: interleavings that would
// break a simpler protocol.

const (
	repoA = "library/a"
	repoB = "library/b"
)

// sizesOf are the sizes of a blob in its record, and of one of several parts.
func sizesOf() map[string]int { return map[string]int{"inline": 40, "parts": 600} }

func readRecord(t *testing.T, w *stage, p []byte) storedRecord {
	t.Helper()
	s, err := envelope.Read[record](w.ctx, w.bucket, layout{}.record(digest.FromBytes(p)))
	must(t, err)
	return s
}

func readLink(t *testing.T, w *stage, repo string, p []byte) storedRecord {
	t.Helper()
	s, err := envelope.Read[record](w.ctx, w.bucket, layout{}.link(digest.FromBytes(p), repo))
	must(t, err)
	return s
}

// deadKeys are the data keys in the dead list.
func deadKeys(t *testing.T, w *stage) []string {
	t.Helper()
	inv, err := (&checker{bucket: w.bucket, lost: w.lost}).read(w.ctx)
	must(t, err)
	var keys []string
	for _, e := range inv.dead {
		keys = append(keys, e.Data)
	}
	return keys
}

func leave(t *testing.T, w *stage, state, repo string, p []byte) {
	t.Helper()
	for _, s := range recordStates() {
		if s.name == state {
			must(t, s.leave(w.replica(t), repo, p))
			return
		}
	}
	t.Fatalf("no state %q", state)
}

// A blob was deleted and condemned, and the client that pushed it PUTs again:
// its data are the record's. The record is revived before the link is written.
func TestAttack15PutAgainOntoCondemned(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, w *stage) {
		p := randomBytes(1, 600)
		c := w.replica(t)
		u, err := c.in(repoA).StartUpload("")
		must(t, err)
		u, err = c.patch(repoA, u, p[:400])
		must(t, err)
		must(t, c.put(repoA, u, p[400:], p))
		must(t, c.delete(repoA, p))
		err = edit(w.ctx, w.bucket, layout{}.record(digest.FromBytes(p)), func(r *record) { r.State = condemned })
		must(t, err)

		var calls drivertest.Counter
		must(t, w.replica(t, calls.Intercept).put(repoA, u, p[400:], p))
		if s := readRecord(t, w, p); s.Value.State != live {
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
		for size, n := range sizesOf() {
			if state == "unverified, adopted" && size == "inline" {
				continue
			}
			t.Run(state+"/"+size, func(t *testing.T) {
				onEveryDriver(t, func(t *testing.T, w *stage) {
					p := randomBytes(1, n)
					leave(t, w, state, repoB, p)
					old := readRecord(t, w, p).Value

					listed := false
					watch := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
						if c.Method == "Replace" && strings.HasSuffix(c.Key, "/record") {
							listed = slices.Contains(deadKeys(t, w), old.Data)
						}
						return do(ctx)
					}
					must(t, w.replica(t, watch).push(repoA, p))
					now := readRecord(t, w, p).Value
					if now.State != live || now.ID != old.ID || n > tinyInline && now.Data == old.Data {
						t.Errorf("the record is %+v, and was %+v", now, old)
					}
					if want := strings.HasPrefix(old.Data, drivers.BulkPrefix); listed != want {
						t.Errorf("the old data key %q was in the dead list before the record was replaced: %v, want %v", old.Data, listed, want)
					}

					// The other repository's link still leads to the old bytes. A
					// push there, which finds the blob live, heals it, as does a
					// mount.
					must(t, w.replica(t).push(repoB, p))
					if l := readLink(t, w, repoB, p).Value; !now.Agrees(l) {
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
			onEveryDriver(t, func(t *testing.T, w *stage) {
				for i, n := range []int{200, 600} { // one object, several parts
					p := randomBytes(uint64(i), n)
					leave(t, w, state, repoB, p)
					old := readRecord(t, w, p).Value
					must(t, w.replica(t).push(repoA, p))
					if now := readRecord(t, w, p).Value; now.Data == old.Data {
						t.Errorf("a blob of %d bytes: the record still names the lost data", n)
					}
				}
			})
		})
	}
}

// A link from an earlier life of the record says nothing about this one.
func TestAttack18LinkOfAnotherLife(t *testing.T) {
	for size, n := range sizesOf() {
		t.Run(size, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, w *stage) {
				p := randomBytes(1, n)
				for _, request := range []func(c *client) error{
					func(c *client) error { return c.push(repoA, p) },
					func(c *client) error { return c.pushPatch(p) },
					func(c *client) error { return c.mount(repoA, repoB, p) },
				} {
					must(t, w.replica(t).push(repoA, p))
					must(t, w.replica(t).push(repoB, p))
					err := edit(w.ctx, w.bucket, layout{}.record(digest.FromBytes(p)), func(r *record) { r.ID = randomID() })
					must(t, err)
					must(t, request(w.replica(t)))
					if l, r := readLink(t, w, repoA, p).Value, readRecord(t, w, p).Value; !r.Agrees(l) {
						t.Errorf("the link is %+v, want that of %+v", l, r)
					}
				}
			})
		})
	}
}

// A DELETE is late: it was repeated, and the blob was pushed again.
func TestAttack19LateDelete(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, w *stage) {
		for i, n := range []int{40, 600} {
			p := randomBytes(uint64(i), n)
			must(t, w.replica(t).push(repoA, p))
			late := &drivertest.Faulty{Mode: drivertest.Late, Nth: 1, Match: on("DeleteIf", "links/")}
			if err := w.replica(t, late.Intercept).delete(repoA, p); !errors.Is(err, drivertest.ErrInjected) {
				t.Fatalf("delete = %v, want it to fail", err)
			}
			must(t, w.replica(t).delete(repoA, p))
			must(t, w.replica(t).push(repoA, p))
			if err := late.Land(w.ctx); !errors.Is(err, drivers.ErrChanged) {
				t.Errorf("the late deletion = %v, want ErrChanged", err)
			}
			must(t, w.replica(t).get(p))
		}
	})
}

// A push by sha512 is killed after it bound its parts to the digest, and another
// client pushes the same bytes by sha256. The first one, asked again, may not
// say that the blob is there by sha512 before that is so.
func TestAttack20AliasOfAnotherPush(t *testing.T) {
	for _, other := range []string{repoA, repoB} {
		t.Run(other, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, w *stage) {
				p := randomBytes(1, 600)
				d := digest.SHA512.FromBytes(p)
				u, err := w.replica(t).in(repoA).StartUpload(digest.SHA512)
				must(t, err)
				if err := w.replica(t, dies(drivertest.Unanswered, on("Create", "uploads/"))).putAs(repoA, u, p, p, d); err == nil {
					t.Fatal("the first push was not killed")
				}
				must(t, w.replica(t).push(other, p))
				// That it was acknowledged, and can't be read by this digest,
				// is what the ledger would find.
				must(t, w.replica(t).putAs(repoA, u, p, p, d))
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
				onBucket(t, openMemory(t, tinyS3()), func(t *testing.T, w *stage) {
					p := randomBytes(1, 40)
					d := digest.SHA512.FromBytes(p)
					must(t, w.replica(t).pushAs(repoB, p, d))
					must(t, w.replica(t).delete(repoB, p))
					must(t, w.bucket.Delete(w.ctx, layout{}.record(digest.FromBytes(p)))) // collected
					time.Sleep(200 * time.Hour)
					// The collector reads the alias, asks for the record, and
					// finds none.
					old, err := w.bucket.Stat(w.ctx, layout{}.alias(d))
					must(t, err)
					collect := func() {
						if err := w.bucket.DeleteIf(w.ctx, old.Key, old.Tag); err != nil && !errors.Is(err, drivers.ErrChanged) {
							t.Error(err)
						}
					}
					must(t, w.replica(t).push(repoB, p))
					if at == "" {
						collect()
					}
					once := at == ""
					c := w.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
						if method, part, ok := strings.Cut(at, " "); ok && !once && on(method, part)(c) {
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
