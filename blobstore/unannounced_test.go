package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// A session that computes sha256 only ends with a PUT by sha512.

// unannounced is such a session, with parts of 256 bytes.
type unannounced struct {
	name    string
	size    int   // of the blob, in bytes
	patches []int // bytes of each PATCH; the PUT brings the rest
	whole   bool  // the PUT holds all bytes, on a store that takes no streams
}

var unannouncedSessions = []unannounced{
	{"inline", 40, []int{40}, true},
	{"inline, by PUT", 40, []int{10}, true},
	{"one object", 200, []int{100, 100}, true},
	{"one full part", 256, []int{256}, false},
	{"tail, and parts by PUT", 700, []int{100}, false},
	{"parts", 512, []int{600}, false},
	{"parts and tail", 900, []int{300, 300}, false},
}

// patched begins the session and returns the bytes that are left for the PUT.
func (s unannounced) patched(t *testing.T, c *client, p []byte) (Upload, []byte) {
	t.Helper()
	u, err := c.in(repoA).StartUpload("")
	must(t, err)
	for _, n := range s.patches {
		n = min(n, len(p))
		u, err = c.patch(repoA, u, p[:n])
		must(t, err)
		p = p[n:]
	}
	return u, p
}

// names reports which of a record, an alias and a link there are.
func (run *simRun) names(t *testing.T, d, named digest.Digest) (names []string) {
	t.Helper()
	for _, key := range []string{catalog.RecordKey(d), catalog.AliasKey(named), catalog.LinkKey(d, repoA)} {
		_, err := run.Bucket.Stat(run.Ctx, key)
		if err == nil {
			names = append(names, kindOf(key))
		} else if !errors.Is(err, drivers.ErrNotFound) {
			t.Fatal(err)
		}
	}
	return names
}

func isWrongDigest(err error) bool { return errors.As(err, new(ErrBlobInvalidDigest)) }

// A right sha512 is 201, after one more read of the data at most. A wrong one is
// 400 and writes nothing that names the blob; the session is over if its bytes
// had to be stored for the comparison, and then its last record names them for
// the collector.
func TestUnannounced(t *testing.T) {
	for i, s := range unannouncedSessions {
		t.Run(s.name, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := randomBytes(uint64(i), s.size)
				d, named, wrong := digest.FromBytes(p), digest.SHA512.FromBytes(p), digest.SHA512.FromString("other bytes")
				whole := s.whole && (s.size <= tinyInline || !run.Bucket.Limits().Stream)
				var calls drivertest.Counter
				c := run.replica(t, calls.Intercept)
				reads := func(f func() error) (n int, err error) {
					calls.Reset()
					err = f()
					for _, call := range calls.Calls() {
						if isData(call) {
							n++
						}
					}
					return n, err
				}
				want := 1
				if whole {
					want = 0
				}

				u, rest := s.patched(t, c, p)
				n, err := reads(func() error { return c.putAs(repoA, u, rest, p, wrong) })
				if !isWrongDigest(err) || n != want {
					t.Errorf("PUT by a wrong digest = %v after %d reads, want an ErrBlobInvalidDigest after %d", err, n, want)
				}
				if got := run.names(t, d, wrong); got != nil {
					t.Errorf("PUT by a wrong digest writes %q", got)
				}
				now, err := c.status(repoA, u)
				switch {
				case whole && (err != nil || now.Size != int64(s.size-len(rest))):
					t.Errorf("status after a wrong digest = %d, %v, want a session at %d", now.Size, err, s.size-len(rest))
				case !whole && !errors.Is(err, ErrBlobUploadUnknown):
					t.Errorf("status after a wrong digest = %v, want %v", err, ErrBlobUploadUnknown)
				case !whole:
					end := run.end(t, u)
					if _, err := run.Bucket.Stat(run.Ctx, end.Upload.Key); err != nil || end.Digest != d || end.Named != "" {
						t.Errorf("the last record is %+v, with data %v, want its key, %s and no other digest", end, err, d)
					}
				}

				u, rest = s.patched(t, c, p)
				if n, err = reads(func() error { return c.putAs(repoA, u, rest, p, named) }); err != nil || n != want {
					t.Errorf("PUT = %v after %d reads, want nil after %d", err, n, want)
				}
				if got, err := run.replica(t).in(repoA).Get(run.Ctx, named); err != nil || !bytes.Equal(got, p) {
					t.Errorf("Get = %d bytes, %v", len(got), err)
				}
				if n, err = reads(func() error { return c.putAs(repoA, u, rest, p, named) }); err != nil || n != 0 {
					t.Errorf("PUT again = %v after %d reads, want nil after none", err, n)
				}
			})
		})
	}
}

// end returns the last record of a session.
func (run *simRun) end(t *testing.T, u Upload) (last sim.Session) {
	t.Helper()
	for _, r := range run.inventory(t).Sessions[u.ID] {
		last = r.Value
	}
	return last
}

// A PUT is killed at each of its writes. Sent again, it is 201 by the right
// sha512 and by the sha256, and by a wrong sha512 neither that nor an alias,
// whichever comes first.
func TestUnannouncedKilled(t *testing.T) {
	p := randomBytes(1, 600)
	d, named, wrong := digest.FromBytes(p), digest.SHA512.FromBytes(p), digest.SHA512.FromString("other bytes")
	for i, first := range []digest.Digest{named, wrong} {
		for j, order := range [][]digest.Digest{{wrong, named, d}, {d, wrong, named}, {named, d, wrong}} {
			for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
				t.Run(fmt.Sprintf("%.10s then %.10s, %s", first, order, mode), func(t *testing.T) {
					on := onEveryDriver
					if i+j > 0 || mode == drivertest.Lost { // the other drivers make no difference
						on = func(t *testing.T, f func(*testing.T, *simRun)) { onS3(t, f) }
					}
					for nth, more := 1, true; more; nth++ {
						on(t, func(t *testing.T, run *simRun) {
							fault := &drivertest.Faulty{Mode: mode, Nth: nth, Match: drivertest.Call.Writes, Dead: true}
							more = putKilled(t, run, fault, p, first, order, wrong)
						})
					}
				})
			}
		}
	}
}

// putKilled sends a PUT by first, which fault kills if it reports so, and then
// one by each digest of order.
func putKilled(t *testing.T, run *simRun, fault *drivertest.Faulty, p []byte, first digest.Digest, order []digest.Digest, wrong digest.Digest) bool {
	t.Helper()
	u, rest := unannounced{patches: []int{300}}.patched(t, run.replica(t), p)
	err := run.replica(t, fault.Intercept).putAs(repoA, u, rest, p, first)
	call, hit := fault.Hit()
	if err == nil && hit && fault.Mode == drivertest.Lost {
		t.Fatalf("killed at %v, it was acknowledged", call)
	}
	for i, again := range order {
		err := run.replica(t).putAs(repoA, u, rest, p, again)
		if again == wrong && !isWrongDigest(err) || again != wrong && err != nil {
			t.Errorf("killed at %v, PUT again by %.15s = %v", call, again, err)
		}
		if got := run.names(t, digest.FromBytes(p), wrong); again == wrong && first == wrong && i == 0 && got != nil {
			t.Errorf("killed at %v, PUT again by a wrong digest writes %q", call, got)
		}
		if _, err := run.Bucket.Stat(run.Ctx, catalog.AliasKey(wrong)); !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("killed at %v, PUT again by %.15s: there is a false alias, %v", call, again, err)
		}
	}
	return hit
}

// A digest that is known to be of other bytes is refused without a read.
func TestUnannouncedDigestOfAnother(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p, other := randomBytes(1, 600), randomBytes(2, 600)
		named := digest.SHA512.FromBytes(other)
		must(t, run.replica(t).pushAs(repoA, other, named))
		u, rest := unannounced{patches: []int{300}}.patched(t, run.replica(t), p)
		for range 2 {
			if err := run.replica(t).putAs(repoA, u, rest, p, named); !isWrongDigest(err) {
				t.Errorf("PUT by the digest of other bytes = %v, want an ErrBlobInvalidDigest", err)
			}
		}
		if got := run.names(t, digest.FromBytes(p), named); len(got) != 1 {
			t.Errorf("PUT by the digest of other bytes leaves %q, want their alias only", got)
		}
	})
}

// The stored bytes cannot be read for a while: 503, and nothing names the blob.
// PUT again finishes.
func TestUnannouncedStoreFails(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 600)
		named := digest.SHA512.FromBytes(p)
		fault := &drivertest.Faulty{Match: isData}
		c := run.replica(t, fault.Intercept)
		u, rest := unannounced{patches: []int{300}}.patched(t, c, p)
		for range 2 {
			if err := c.putAs(repoA, u, rest, p, named); !errors.Is(err, ErrUnavailable) {
				t.Errorf("PUT while the data cannot be read = %v, want %v", err, ErrUnavailable)
			}
		}
		if got := run.names(t, digest.FromBytes(p), named); got != nil {
			t.Errorf("PUT while the data cannot be read writes %q", got)
		}
		must(t, run.replica(t).putAs(repoA, u, rest, p, named))
	})
}

// The store has other bytes than it took, or none: the upload is lost, and
// nothing names it.
func TestUnannouncedDataDamaged(t *testing.T) {
	for name, by := range map[string][]byte{"others": randomBytes(2, 600), "fewer": randomBytes(2, 599), "none": nil} {
		t.Run(name, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := randomBytes(1, 600)
				named := digest.SHA512.FromBytes(p)
				c := run.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if isData(c) {
						run.Invariants.Lose(c.Key)
						must(t, run.Bucket.Delete(ctx, c.Key))
						if by != nil {
							_, err := run.Bucket.Create(ctx, c.Key, drivers.NewBody(by))
							must(t, err)
						}
					}
					return do(ctx)
				})
				u, rest := unannounced{patches: []int{300}}.patched(t, c, p)
				if err := c.putAs(repoA, u, rest, p, named); !errors.Is(err, ErrBlobUploadUnknown) {
					t.Errorf("PUT = %v, want %v", err, ErrBlobUploadUnknown)
				}
				if got := run.names(t, digest.FromBytes(p), named); got != nil {
					t.Errorf("PUT writes %q", got)
				}
			})
		})
	}
}

// A client that is gone while the data is read back finds the blob there.
func TestUnannouncedClientGone(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 600)
		named := digest.SHA512.FromBytes(p)
		for _, size := range []int{300, 0} { // what the PUT again must send
			ctx, gone := context.WithCancel(run.Ctx)
			c := run.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				if isData(c) {
					gone()
				}
				return do(ctx)
			})
			u, rest := unannounced{patches: []int{600 - size}}.patched(t, c, p)
			if size == 0 { // the session has ended before
				if err := run.replica(t, sim.Dying(drivertest.Unanswered, sim.On("Complete", ""))).putAs(repoA, u, rest, p, named); err == nil {
					t.Fatal("the first PUT was not killed")
				}
			}
			if _, err := c.in(repoA).FinishUpload(ctx, u.ID, u.State, bodyOf(rest), Descriptor{Digest: named}); err != nil {
				t.Errorf("PUT of a client that is gone = %v", err)
			}
			if ctx.Err() == nil {
				t.Error("nothing was read back")
			}
			must(t, run.Bucket.Delete(run.Ctx, catalog.AliasKey(named)))
			must(t, run.Bucket.Delete(run.Ctx, catalog.LinkKey(digest.FromBytes(p), repoA)))
		}
	})
}

// trickling is a bucket that gives a byte of data in 20 seconds.
type trickling struct{ drivers.Bucket }

func (b trickling) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	rc, o, err := b.Bucket.Open(ctx, key, off, n)
	if err == nil && isData(drivertest.Call{Method: "Open", Key: key}) {
		rc = &trickle{rc}
	}
	return rc, o, err
}

type trickle struct{ io.ReadCloser }

func (t *trickle) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Second)
	return t.ReadCloser.Read(p[:min(len(p), 1)])
}

// A read that lasts longer than a request may is given up, and writes nothing.
func TestUnannouncedPastTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onS3(t, func(t *testing.T, run *simRun) {
			p := randomBytes(1, 2000)
			named := digest.SHA512.FromBytes(p)
			c := &client{run: run, s: openStore(t, trickling{run.Bucket}, tiny())}
			u, rest := unannounced{patches: []int{2000}}.patched(t, c, p)
			for range 2 {
				began := time.Now()
				err := c.putAs(repoA, u, rest, p, named)
				if took := time.Since(began); !errors.Is(err, ErrUnavailable) || took > 6*time.Hour+time.Minute {
					t.Errorf("PUT = %v after %v, want %v after 6h", err, took, ErrUnavailable)
				}
			}
			if got := run.names(t, digest.FromBytes(p), named); got != nil {
				t.Errorf("PUT writes %q", got)
			}
			must(t, run.replica(t).putAs(repoA, u, rest, p, named))
		})
	})
}
