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
	"github.com/berthhq/berth/drivers/envelope"
)

// unannounced is a session that computes sha256 only, with parts of 256 bytes, and
// that ends with a PUT by sha512.
type unannounced struct {
	name    string
	size    int   // of the blob, in bytes
	patches []int // bytes of each PATCH; the PUT has the rest

	// holdsAll means that the PUT holds all bytes in memory, on a store that does
	// not take parts as streams.
	holdsAll bool
}

func unannouncedSessions() []unannounced {
	return []unannounced{
		{"inline", 40, []int{40}, true},
		{"inline, by PUT", 40, []int{10}, true},
		{"one object", 200, []int{100, 100}, true},
		{"one full part", 256, []int{256}, false},
		{"tail, and parts by PUT", 700, []int{100}, false},
		{"parts", 512, []int{600}, false},
		{"parts and tail", 900, []int{300, 300}, false},
	}
}

// patched starts the session and returns the bytes that are left for the PUT.
func (s unannounced) patched(t *testing.T, c *client, p []byte) (Upload, []byte) {
	t.Helper()
	u, err := c.start(repoA, "")
	must(t, err)
	for _, n := range s.patches {
		n = min(n, len(p))
		u, err = c.patch(repoA, u, p[:n])
		must(t, err)
		p = p[n:]
	}
	return u, p
}

// names returns which of a record, an alias and a link exist.
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

// dataReads returns the number of reads of data that f makes, and its error.
func dataReads(calls *drivertest.Counter, f func() error) (int, error) {
	calls.Reset()
	err := f()
	n := 0
	for _, call := range calls.Calls() {
		if isData(call) {
			n++
		}
	}
	return n, err
}

// TestUnannounced ends each session by the right sha512, after at most one more
// read of the data.
func TestUnannounced(t *testing.T) {
	for i, s := range unannouncedSessions() {
		t.Run(s.name, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := randomBytes(uint64(i), s.size)
				named := digest.SHA512.FromBytes(p)
				var calls drivertest.Counter
				c := run.replica(t, calls.Intercept)
				u, rest := s.patched(t, c, p)
				put := func() error { return c.putAs(repoA, u, rest, p, named) }
				want := s.reads(run)
				if n, err := dataReads(&calls, put); err != nil || n != want {
					t.Errorf("PUT = %v after %d reads, want success after %d", err, n, want)
				}
				if got, err := run.replica(t).in(repoA).Get(run.Ctx, named); err != nil || !bytes.Equal(got, p) {
					t.Errorf("Get = %d bytes, %v", len(got), err)
				}
				if n, err := dataReads(&calls, put); err != nil || n != 0 {
					t.Errorf("PUT again = %v after %d reads, want success after none", err, n)
				}
			})
		})
	}
}

// reads returns how often the PUT reads data.
func (s unannounced) reads(run *simRun) int {
	if s.holdsAll && (s.size <= tinyInline || !run.Bucket.Limits().Stream) {
		return 0
	}
	return 1
}

// TestUnannouncedWrongDigest ends each session by a wrong sha512. The PUT creates
// nothing that names the blob. If its bytes had to be stored for the comparison, the
// session is over, and its last record names them for the collector.
func TestUnannouncedWrongDigest(t *testing.T) {
	wrong := digest.SHA512.FromString("other bytes")
	for i, s := range unannouncedSessions() {
		t.Run(s.name, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := randomBytes(uint64(i), s.size)
				d := digest.FromBytes(p)
				var calls drivertest.Counter
				c := run.replica(t, calls.Intercept)
				u, rest := s.patched(t, c, p)
				want := s.reads(run)
				n, err := dataReads(&calls, func() error { return c.putAs(repoA, u, rest, p, wrong) })
				if !isWrongDigest(err) || n != want {
					t.Errorf("PUT = %v after %d reads, want an ErrBlobInvalidDigest after %d", err, n, want)
				}
				if got := run.names(t, d, wrong); got != nil {
					t.Errorf("PUT writes %q, want nothing", got)
				}
				now, err := c.status(repoA, u)
				if want == 0 {
					if err != nil || now.Size != int64(s.size-len(rest)) {
						t.Errorf("status = %d, %v, want a session at %d", now.Size, err, s.size-len(rest))
					}
					return
				}
				wantUnknown(t, "status", err)
				end := run.end(t, u)
				if _, err := run.Bucket.Stat(run.Ctx, end.Upload.Key); err != nil || end.Digest != d || end.Named != "" {
					t.Errorf("the last record is %+v, with data %v, want its key, %s and no other digest", end, err, d)
				}
			})
		})
	}
}

// sessionEnd is what a test needs of the record that ends a session.
type sessionEnd struct {
	Upload drivers.Upload `json:"upload"`
	Digest digest.Digest  `json:"digest"`
	Named  digest.Digest  `json:"named"` // if it is not the canonical one
}

// end reads the last record of a session.
func (run *simRun) end(t *testing.T, u Upload) sessionEnd {
	t.Helper()
	last := len(run.inventory(t).Sessions[u.ID])
	s, err := envelope.Read[sessionEnd](run.Ctx, run.Bucket, catalog.Layout{}.SessionRecord(u.ID, last))
	must(t, err)
	return s.Value
}

// killedPut is a PUT that is killed, and repeated by several digests.
type killedPut struct {
	p      []byte
	first  digest.Digest
	repeat []digest.Digest
	wrong  digest.Digest // the one of them that is not a digest of p
}

// TestUnannouncedKilled kills a PUT at each of its writes. If it is repeated by the
// right sha512 or by the sha256, it succeeds. If it is repeated by a wrong sha512,
// it fails and leaves no alias. The order makes no difference.
func TestUnannouncedKilled(t *testing.T) {
	p := randomBytes(1, 600)
	d, named, wrong := digest.FromBytes(p), digest.SHA512.FromBytes(p), digest.SHA512.FromString("other bytes")
	for i, first := range []digest.Digest{named, wrong} {
		for j, order := range [][]digest.Digest{{wrong, named, d}, {d, wrong, named}, {named, d, wrong}} {
			for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
				t.Run(fmt.Sprintf("%.10s then %.10s, %s", first, order, mode), func(t *testing.T) {
					on := onEveryDriver
					if i+j > 0 || mode == drivertest.Lost { // the other drivers make no difference
						on = onS3
					}
					put := killedPut{p, first, order, wrong}
					for nth, more := 1, true; more; nth++ {
						on(t, func(t *testing.T, run *simRun) {
							more = put.test(t, run, &drivertest.Faulty{Mode: mode, Nth: nth, Match: drivertest.Call.Writes, Dead: true})
						})
					}
				})
			}
		}
	}
}

// test reports whether the fault struck.
func (k killedPut) test(t *testing.T, run *simRun, fault *drivertest.Faulty) bool {
	t.Helper()
	u, rest := unannounced{patches: []int{300}}.patched(t, run.replica(t), k.p)
	err := run.replica(t, fault.Intercept).putAs(repoA, u, rest, k.p, k.first)
	call, hit := fault.Hit()
	if err == nil && hit && fault.Mode == drivertest.Lost {
		t.Fatalf("killed at %v, the PUT was acknowledged", call)
	}
	onlyWrong := k.first == k.wrong // until now
	for _, d := range k.repeat {
		onlyWrong = onlyWrong && d == k.wrong
		err := run.replica(t).putAs(repoA, u, rest, k.p, d)
		if d == k.wrong && !isWrongDigest(err) || d != k.wrong && err != nil {
			t.Errorf("killed at %v, PUT again by %.15s = %v", call, d, err)
		}
		if got := run.names(t, digest.FromBytes(k.p), k.wrong); onlyWrong && got != nil {
			t.Errorf("killed at %v, PUT again by a wrong digest writes %q", call, got)
		}
		if _, err := run.Bucket.Stat(run.Ctx, catalog.AliasKey(k.wrong)); !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("killed at %v, PUT again by %.15s: Stat of a false alias = %v, want ErrNotFound", call, d, err)
		}
	}
	return hit
}

// TestUnannouncedDigestOfAnother makes a PUT by the sha512 of another blob. The PUT is
// refused.
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
			t.Errorf("PUT by the digest of other bytes leaves %q, want only their alias", got)
		}
	})
}

// TestUnannouncedStoreFails makes reads of the stored bytes fail for some time. The
// PUT fails, and nothing names the blob. The next PUT succeeds.
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
			t.Errorf("PUT while the data cannot be read writes %q, want nothing", got)
		}
		must(t, run.replica(t).putAs(repoA, u, rest, p, named))
	})
}

// TestUnannouncedDataDamaged replaces the stored bytes, or deletes them, before they
// are read back. The upload is lost, and nothing names it.
func TestUnannouncedDataDamaged(t *testing.T) {
	for name, by := range map[string][]byte{"other": randomBytes(2, 600), "fewer": randomBytes(2, 599), "none": nil} {
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
					t.Errorf("PUT writes %q, want nothing", got)
				}
			})
		})
	}
}

// TestUnannouncedClientGone cancels the request while the data is read back. The
// commit succeeds anyway.
func TestUnannouncedClientGone(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 600)
		named := digest.SHA512.FromBytes(p)
		for _, size := range []int{300, 0} { // of the body of the PUT
			ctx, gone := context.WithCancel(run.Ctx)
			c := run.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				if isData(c) {
					gone()
				}
				return do(ctx)
			})
			u, rest := unannounced{patches: []int{600 - size}}.patched(t, c, p)
			if size == 0 { // the session has ended already
				if err := run.replica(t, sim.Dying(drivertest.Unanswered, sim.On("Complete", ""))).putAs(repoA, u, rest, p, named); err == nil {
					t.Fatal("the first PUT was not killed")
				}
			}
			if _, err := c.in(repoA).FinishUpload(ctx, u.ID, u.State, bodyOf(rest), Descriptor{Digest: named}); err != nil {
				t.Errorf("canceled PUT = %v, want success", err)
			}
			if ctx.Err() == nil {
				t.Error("the PUT read no data")
			}
			must(t, run.Bucket.Delete(run.Ctx, catalog.AliasKey(named)))
			must(t, run.Bucket.Delete(run.Ctx, catalog.LinkKey(digest.FromBytes(p), repoA)))
		}
	})
}

// trickling is a bucket that returns one byte of data every 20 seconds.
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

// TestUnannouncedPastTheLimit reads the data back for longer than a request may last.
// The PUT fails and writes nothing.
func TestUnannouncedPastTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onS3(t, func(t *testing.T, run *simRun) {
			p := randomBytes(1, 2000)
			named := digest.SHA512.FromBytes(p)
			c := &client{run: run, s: openStore(t, trickling{run.Bucket}, tiny())}
			u, rest := unannounced{patches: []int{2000}}.patched(t, c, p)
			for range 2 {
				start := time.Now()
				err := c.putAs(repoA, u, rest, p, named)
				if took := time.Since(start); !errors.Is(err, ErrUnavailable) || took > 6*time.Hour+time.Minute {
					t.Errorf("PUT = %v after %v, want %v after 6h", err, took, ErrUnavailable)
				}
			}
			if got := run.names(t, digest.FromBytes(p), named); got != nil {
				t.Errorf("PUT writes %q, want nothing", got)
			}
			must(t, run.replica(t).putAs(repoA, u, rest, p, named))
		})
	})
}
