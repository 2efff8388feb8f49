package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// finishAll commits p, all of it in one request, by a digest.
func finishAll(t *testing.T, r *Repository, u Upload, p []byte, d digest.Digest) error {
	t.Helper()
	_, err := r.FinishUpload(t.Context(), u.ID, u.State, Body{bytes.NewReader(p), int64(len(p)), -1, nil}, Descriptor{Digest: d})
	return err
}

func begin(t *testing.T, r *Repository, alg digest.Algorithm) Upload {
	t.Helper()
	u, err := r.StartUpload(alg)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func creates(prefix, suffix string) func(drivertest.Call) bool {
	return func(c drivertest.Call) bool {
		return c.Method == "Create" && strings.HasPrefix(c.Key, prefix) && strings.HasSuffix(c.Key, suffix)
	}
}

// A commit that names another digest than that of the bytes is never taken for
// one sent again, whatever the session was committed as: it would let these
// bytes be read by any name.
func TestCommitAgainByWrongDigest(t *testing.T) {
	for name, open := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			r := repository(t, openStore(t, open(t), smallParts()), "a")
			p, other := []byte("these bytes"), []byte("other bytes")
			fresh := begin(t, r, "")
			u, err := r.AppendUpload(t.Context(), fresh.ID, fresh.State, Body{bytes.NewReader(p), -1, -1, nil})
			if err != nil {
				t.Fatal(err)
			}
			if err := finishAll(t, r, u, nil, digest.FromBytes(p)); err != nil {
				t.Fatal(err)
			}
			for _, wrong := range []digest.Digest{digest.FromBytes(other), digest.SHA512.FromBytes(other)} {
				if err := finishAll(t, r, fresh, p, wrong); !errors.Is(err, ErrBlobUploadUnknown) {
					t.Errorf("commit of the same bytes as %s: %v, want %v", wrong.Algorithm(), err, ErrBlobUploadUnknown)
				}
				if got, err := r.Get(t.Context(), wrong); !errors.Is(err, ErrBlobUnknown) {
					t.Errorf("Get by the wrong digest = %q, %v", got, err)
				}
				if err := finishAll(t, r, begin(t, r, ""), other, wrong); err != nil {
					t.Errorf("push of the bytes that have the digest: %v", err)
				}
			}
		})
	}
}

// A commit that finds another record in the place of the end is answered by what
// that record says, also where the repository has the blob already: from another
// upload it proves nothing about this one.
func TestCommitOvertaken(t *testing.T) {
	p := randomBytes(4, 256<<10) // two full parts: no bytes are left for the end
	d := digest.FromBytes(p)
	for name, tc := range map[string]struct {
		overtake func(t *testing.T, r *Repository, u Upload) error
		want     error
	}{
		"cancelled": {func(t *testing.T, r *Repository, u Upload) error {
			return r.CancelUpload(t.Context(), u.ID, u.State)
		}, ErrBlobUploadUnknown},
		"gone on": {func(t *testing.T, r *Repository, u Upload) error {
			_, err := r.AppendUpload(t.Context(), u.ID, u.State, Body{strings.NewReader("more"), 4, -1, nil})
			return err
		}, ErrOutOfOrder},
		"committed": {func(t *testing.T, r *Repository, u Upload) error {
			return finishAll(t, r, u, nil, d)
		}, nil},
	} {
		for _, linked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, there before: %v", name, linked), func(t *testing.T) {
				var r *Repository
				var u Upload
				overtaken := false
				b := drivertest.Wrap(buckets(t)["S3"](t), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if c.Method == "Create" && c.Key == (catalog.Layout{}).SessionRecord(u.ID, 2) && !overtaken {
						overtaken = true
						if err := tc.overtake(t, r, u); err != nil {
							t.Errorf("overtaking: %v", err)
						}
					}
					return do(ctx)
				})
				r = repository(t, openStore(t, b, smallParts()), "a")
				if linked {
					if _, err := r.Put(t.Context(), "", p); err != nil {
						t.Fatal(err)
					}
				}
				fresh := begin(t, r, "")
				var err error
				if u, err = r.AppendUpload(t.Context(), fresh.ID, fresh.State, Body{bytes.NewReader(p), -1, -1, nil}); err != nil {
					t.Fatal(err)
				}
				if err := finishAll(t, r, u, nil, d); !errors.Is(err, tc.want) || !overtaken {
					t.Errorf("commit, overtaken: %v = %v, want %v", overtaken, err, tc.want)
				}
				if _, err := r.Stat(t.Context(), d); (err == nil) != (linked || tc.want == nil) {
					t.Errorf("Stat = %v", err)
				}
			})
		}
	}
}

// A commit that was acknowledged is so again as long as the blob is there, also
// when its own bytes are gone, since those of another upload were there first,
// and the store does not answer the Create that meets the end.
func TestCommitAgainUnanswered(t *testing.T) {
	p := randomBytes(5, 256<<10)
	d := digest.FromBytes(p)
	fail := false
	own := ""
	b := drivertest.Wrap(buckets(t)["S3"](t), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == "Create" && strings.HasPrefix(c.Key, "uploads/") && fail {
			return drivertest.ErrInjected
		}
		if c.Method == "StartUpload" && strings.HasPrefix(c.Key, "data/new/") {
			own = c.Key
		}
		return do(ctx)
	})
	r := repository(t, openStore(t, b, smallParts()), "a")
	if err := finishAll(t, r, begin(t, r, ""), p, d); err != nil {
		t.Fatal(err)
	}
	fresh := begin(t, r, "")
	u, err := r.AppendUpload(t.Context(), fresh.ID, fresh.State, Body{bytes.NewReader(p), -1, -1, nil})
	if err == nil {
		err = finishAll(t, r, u, nil, d)
	}
	if err == nil {
		err = b.Delete(t.Context(), own) // as the collector does
	}
	if err != nil || own == "" {
		t.Fatal(own, err)
	}
	for _, fail = range []bool{false, true} {
		if err := finishAll(t, r, u, nil, d); err != nil {
			t.Errorf("commit again, without an answer: %v = %v", fail, err)
		}
	}
}

// A commit that failed at the record that ends its session, or at the blob's,
// can be made again, by the same writer or by one that resumes.
func TestCommitAfterFailure(t *testing.T) {
	const part = 128 << 10
	blob := uint64(0) // each is another one
	for name, open := range buckets(t) {
		for _, tc := range []struct {
			size int
			at   func(drivertest.Call) bool
		}{
			{100, creates("blobs/", "/record")},
			{100_000, creates("blobs/", "/record")},
			{300_000, creates("blobs/", "/record")},
			{300_000, creates("uploads/", "")},
		} {
			for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Late} {
				for _, closed := range []bool{false, true} {
					t.Run(name, func(t *testing.T) {
						fault := &drivertest.Faulty{Mode: mode, Nth: 1, Match: tc.at}
						r := repository(t, openStore(t, drivertest.Wrap(open(t), fault.Intercept), smallParts()), "a")
						blob++
						p := randomBytes(blob, tc.size)
						d := digest.FromBytes(p)
						w, err := r.Create(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						if _, err := w.Write(p); err != nil {
							t.Fatal(err)
						}
						if _, err := w.Commit(t.Context(), Descriptor{Digest: d}); err == nil {
							t.Fatal("Commit succeeded without a record")
						}
						if err := fault.Land(t.Context()); err != nil {
							t.Fatal(err)
						}
						if closed && tc.size < part { // else it is committed, and Commit again is the only way on
							if err := w.Close(); err != nil {
								t.Fatal(err)
							}
							if w, err = r.Resume(t.Context(), w.ID()); err != nil {
								t.Fatal(err)
							}
						}
						if _, err := w.Commit(t.Context(), Descriptor{Digest: d}); err != nil {
							t.Fatalf("Commit again: %v", err)
						}
						if got, err := r.Get(t.Context(), d); err != nil || !bytes.Equal(got, p) {
							t.Errorf("Get = %d bytes, %v, want %d", len(got), err, len(p))
						}
					})
				}
			}
		}
	}
}

// The tail of a session is read back, so what is read is compared with what was
// hashed.
func TestDamagedTail(t *testing.T) {
	for name, open := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			r := repository(t, openStore(t, b, smallParts()), "a")
			p := randomBytes(1, 10_000)
			u := begin(t, r, "")
			u, err := r.AppendUpload(t.Context(), u.ID, u.State, Body{bytes.NewReader(p), -1, -1, nil})
			if err != nil {
				t.Fatal(err)
			}
			key := catalog.Layout{}.SessionRecord(u.ID, 1)
			rc, o, err := b.Open(t.Context(), key, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			stored, err := io.ReadAll(rc)
			rc.Close()
			if err != nil {
				t.Fatal(err)
			}
			stored[len(stored)-1] ^= 1
			if _, err := b.Replace(t.Context(), key, o.Tag, drivers.NewBody(stored)); err != nil {
				t.Fatal(err)
			}
			if err := finishAll(t, r, u, nil, digest.FromBytes(p)); !errors.Is(err, ErrBlobUploadUnknown) {
				t.Errorf("commit = %v, want %v", err, ErrBlobUploadUnknown)
			}
			if got, err := r.Get(t.Context(), digest.FromBytes(p)); err == nil {
				t.Errorf("Get = %d bytes", len(got))
			}
		})
	}
}

// Two PUTs of one upload by a digest of another algorithm, the second while the
// first completes: each has parts of its own, and both are acknowledged.
func TestTwoPutsBySHA512(t *testing.T) {
	for name, open := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			p := randomBytes(3, 3<<20)
			d := digest.SHA512.FromBytes(p)
			var r *Repository
			var u Upload
			first := true
			bucket := drivertest.Wrap(open(t), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				if c.Method == "Complete" && first {
					first = false
					if err := finishAll(t, r, u, p, d); err != nil {
						t.Errorf("the second PUT: %v", err)
					}
				}
				return do(ctx)
			})
			r = repository(t, openStore(t, bucket, smallParts()), "a")
			u = begin(t, r, digest.SHA512)
			if err := finishAll(t, r, u, p, d); err != nil {
				t.Errorf("the first PUT: %v", err)
			}
			if first {
				t.Error("nothing was completed")
			}
			if got, err := r.Get(t.Context(), d); err != nil || !bytes.Equal(got, p) {
				t.Errorf("Get = %d bytes, %v", len(got), err)
			}
		})
	}
}

// Drain may come at any moment of a writer's life.
func TestDrainWhileWritersBegin(t *testing.T) {
	s := openStore(t, buckets(t)["S3"](t), smallParts())
	r := repository(t, s, "a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			s.Drain()
		}
	}()
	for range 200 {
		w, err := r.Create(t.Context())
		if err != nil {
			continue
		}
		if err := w.Cancel(t.Context()); err != nil {
			t.Error(err)
		}
	}
	<-done
}

// After a Cancel that failed the upload may go on. Called again, it ends it.
func TestCancelAgain(t *testing.T) {
	for _, c := range []struct {
		what   string
		size   int
		method string // of the call that fails
	}{
		{"a tail", 1000, "Create"},
		{"a tail", 1000, "Replace"}, // without which its bytes are still there
		{"parts", 300_000, "Create"},
	} {
		b := buckets(t)["S3"](t)
		r := repository(t, openStore(t, b, smallParts()), "a")
		w, err := r.Create(t.Context())
		must(t, err)
		_, err = w.Write(randomBytes(1, c.size))
		must(t, err)
		must(t, w.Close())

		fault := &drivertest.Faulty{Mode: drivertest.Lost, Nth: 1, Match: sim.On(c.method, "uploads/")}
		other := repository(t, openStore(t, drivertest.Wrap(b, fault.Intercept), smallParts()), "a")
		w, err = other.Resume(t.Context(), w.ID())
		must(t, err)
		if err := w.Cancel(t.Context()); !errors.Is(err, drivertest.ErrInjected) {
			t.Errorf("%s, %s fails: Cancel = %v, want what fails it", c.what, c.method, err)
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Errorf("%s, %s fails: Write after Cancel succeeds", c.what, c.method)
		}
		if _, err := w.Commit(t.Context(), Descriptor{Digest: digest.FromString("x")}); err == nil {
			t.Errorf("%s, %s fails: Commit after Cancel succeeds", c.what, c.method)
		}
		must(t, w.Close())
		for range 2 {
			if err := w.Cancel(t.Context()); err != nil {
				t.Errorf("%s, %s fails: Cancel again = %v", c.what, c.method, err)
			}
		}
		if _, err := r.Resume(t.Context(), w.ID()); !errors.Is(err, ErrBlobUploadUnknown) {
			t.Errorf("%s, %s fails: Resume of what was cancelled = %v, want %v", c.what, c.method, err, ErrBlobUploadUnknown)
		}
	}
}

// An alias is written for bytes that have both digests only: not for those of a
// blob that rotted, or that nobody hashed here.
func TestNoAliasForDamagedBytes(t *testing.T) {
	b := buckets(t)["S3"](t)
	r := repository(t, openStore(t, b, smallParts()), "a")
	p, rotten := randomBytes(1, 100_000), randomBytes(2, 100_000)
	desc, err := r.Put(t.Context(), "", p)
	if err != nil {
		t.Fatal(err)
	}
	rec, _, err := r.links().find(t.Context(), desc.Digest, false)
	if err != nil {
		t.Fatal(err)
	}
	o, err := b.Stat(t.Context(), rec.Data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Replace(t.Context(), rec.Data, o.Tag, drivers.NewBody(rotten)); err != nil {
		t.Fatal(err)
	}
	alias := digest.SHA512.FromBytes(rotten)
	if err := r.SetDescriptor(t.Context(), alias, desc); !errors.As(err, new(ErrBlobInvalidDigest)) {
		t.Errorf("SetDescriptor = %v, want an ErrBlobInvalidDigest", err)
	}
	if _, err := r.Stat(t.Context(), alias); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("Stat by the alias = %v, want %v", err, ErrBlobUnknown)
	}
}

// A session ends at its time, also for those who know its id only.
func TestResumeExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buckets(t)["S3"](t)
		r := repository(t, openStore(t, b, smallParts()), "a")
		w, err := r.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			after time.Duration
			want  error
		}{{143 * time.Hour, nil}, {2 * time.Hour, ErrBlobUploadUnknown}} {
			time.Sleep(tc.after)
			w, err := r.Resume(t.Context(), w.ID())
			if !errors.Is(err, tc.want) {
				t.Errorf("Resume %v later = %v, want %v", tc.after, err, tc.want)
			}
			if err == nil {
				w.Close()
			}
		}
	})
}

// The Go API's errors are this package's.
func TestPutTooLarge(t *testing.T) {
	cfg := smallParts()
	cfg.Upload.MaxBlobSize = 10
	r := repository(t, openStore(t, buckets(t)["S3"](t), cfg), "a")
	if _, err := r.Put(t.Context(), "", make([]byte, 11)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Put = %v, want %v", err, ErrTooLarge)
	}
}
