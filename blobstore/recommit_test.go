package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// finishAll commits an upload by a digest, in one request with the rest p.
func finishAll(t *testing.T, r *Repository, u Upload, p []byte, d digest.Digest) error {
	t.Helper()
	_, err := r.FinishUpload(t.Context(), u.ID, u.State, Body{bytes.NewReader(p), int64(len(p)), -1, nil}, Descriptor{Digest: d})
	return err
}

func startUpload(t *testing.T, r *Repository, alg digest.Algorithm) Upload {
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

// TestCommitAgainByWrongDigest commits a session again by the digest of other bytes.
// That is not a repetition, even though the session is committed. Otherwise the bytes
// could be read by any digest.
func TestCommitAgainByWrongDigest(t *testing.T) {
	for name, open := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			r := repository(t, openStore(t, open(t), smallParts()), "a")
			p, other := []byte("these bytes"), []byte("other bytes")
			fresh := startUpload(t, r, "")
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
					t.Errorf("Get by the wrong digest = %q, %v, want ErrBlobUnknown", got, err)
				}
				if err := finishAll(t, r, startUpload(t, r, ""), other, wrong); err != nil {
					t.Errorf("push of the bytes of that digest: %v", err)
				}
			}
		})
	}
}

// TestCommitOvertaken commits a session while another request creates its next record.
// That record decides, even if the repository has the blob already: a blob of another
// upload proves nothing about this one.
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
		"continued": {func(t *testing.T, r *Repository, u Upload) error {
			_, err := r.AppendUpload(t.Context(), u.ID, u.State, Body{strings.NewReader("more"), 4, -1, nil})
			return err
		}, ErrOutOfOrder},
		"committed": {func(t *testing.T, r *Repository, u Upload) error {
			return finishAll(t, r, u, nil, d)
		}, nil},
	} {
		for _, linked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, linked before: %v", name, linked), func(t *testing.T) {
				var r *Repository
				var u Upload
				overtaken := false
				b := drivertest.Wrap(buckets(t)["S3"](t), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if c.Method == "Create" && c.Key == (catalog.Layout{}).SessionRecord(u.ID, 2) && !overtaken {
						overtaken = true
						if err := tc.overtake(t, r, u); err != nil {
							t.Errorf("the other request: %v", err)
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
				fresh := startUpload(t, r, "")
				var err error
				if u, err = r.AppendUpload(t.Context(), fresh.ID, fresh.State, Body{bytes.NewReader(p), -1, -1, nil}); err != nil {
					t.Fatal(err)
				}
				if err := finishAll(t, r, u, nil, d); !errors.Is(err, tc.want) || !overtaken {
					t.Errorf("commit = %v, overtaken: %v, want %v", err, overtaken, tc.want)
				}
				if _, err := r.Stat(t.Context(), d); (err == nil) != (linked || tc.want == nil) {
					t.Errorf("Stat = %v, want a link: %v", err, linked || tc.want == nil)
				}
			})
		}
	}
}

// TestCommitAgainUnanswered repeats a commit of a blob that another upload has stored
// first, so that the session's own bytes are gone. It succeeds even if the store does
// not answer the Create that meets the end of the session.
func TestCommitAgainUnanswered(t *testing.T) {
	p := randomBytes(5, 256<<10)
	d := digest.FromBytes(p)
	fail := false
	ours := ""
	b := drivertest.Wrap(buckets(t)["S3"](t), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == "Create" && strings.HasPrefix(c.Key, "uploads/") && fail {
			return drivertest.ErrInjected
		}
		if c.Method == "StartUpload" && strings.HasPrefix(c.Key, "data/new/") {
			ours = c.Key
		}
		return do(ctx)
	})
	r := repository(t, openStore(t, b, smallParts()), "a")
	if err := finishAll(t, r, startUpload(t, r, ""), p, d); err != nil {
		t.Fatal(err)
	}
	fresh := startUpload(t, r, "")
	u, err := r.AppendUpload(t.Context(), fresh.ID, fresh.State, Body{bytes.NewReader(p), -1, -1, nil})
	if err == nil {
		err = finishAll(t, r, u, nil, d)
	}
	if err == nil {
		err = b.Delete(t.Context(), ours) // as the collector does
	}
	if err != nil || ours == "" {
		t.Fatal(ours, err)
	}
	for _, fail = range []bool{false, true} {
		if err := finishAll(t, r, u, nil, d); err != nil {
			t.Errorf("commit again, unanswered: %v = %v", fail, err)
		}
	}
}

// failedCommit is a commit that fails once, at a call.
type failedCommit struct {
	size int
	at   func(drivertest.Call) bool
	mode drivertest.Mode

	// resume makes another writer repeat the commit. That works as long as the
	// session has not ended.
	resume bool
}

// TestCommitAfterFailure repeats a commit that failed at the record that ends its
// session, or at the blob's.
func TestCommitAfterFailure(t *testing.T) {
	var all []failedCommit
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Late} {
		all = append(all,
			failedCommit{100, creates("blobs/", "/record"), mode, false},
			failedCommit{100, creates("blobs/", "/record"), mode, true},
			failedCommit{100_000, creates("blobs/", "/record"), mode, false},
			failedCommit{100_000, creates("blobs/", "/record"), mode, true},
			failedCommit{300_000, creates("blobs/", "/record"), mode, false},
			failedCommit{300_000, creates("uploads/", ""), mode, false},
		)
	}
	for name, open := range buckets(t) {
		for i, c := range all {
			t.Run(fmt.Sprintf("%s/%d bytes, %s, resumed %v", name, c.size, c.mode, c.resume), func(t *testing.T) {
				c.test(t, open(t), randomBytes(uint64(i), c.size))
			})
		}
	}
}

func (c failedCommit) test(t *testing.T, b drivers.Bucket, p []byte) {
	t.Helper()
	fault := &drivertest.Faulty{Mode: c.mode, Nth: 1, Match: c.at}
	r := repository(t, openStore(t, drivertest.Wrap(b, fault.Intercept), smallParts()), "a")
	d := digest.FromBytes(p)
	w, err := r.Create(t.Context())
	must(t, err)
	_, err = w.Write(p)
	must(t, err)
	if _, err := w.Commit(t.Context(), Descriptor{Digest: d}); err == nil {
		t.Fatal("Commit succeeded without a record")
	}
	must(t, fault.Land(t.Context()))
	if c.resume {
		must(t, w.Close())
		w, err = r.Resume(t.Context(), w.ID())
		must(t, err)
	}
	if _, err := w.Commit(t.Context(), Descriptor{Digest: d}); err != nil {
		t.Fatalf("Commit again: %v", err)
	}
	if got, err := r.Get(t.Context(), d); err != nil || !bytes.Equal(got, p) {
		t.Errorf("Get = %d bytes, %v, want %d", len(got), err, len(p))
	}
}

// TestDamagedTail changes the tail in a session record. The commit reads it back and
// compares it with what was hashed.
func TestDamagedTail(t *testing.T) {
	for name, open := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			r := repository(t, openStore(t, b, smallParts()), "a")
			p := randomBytes(1, 10_000)
			u := startUpload(t, r, "")
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
				t.Errorf("Get = %d bytes, want an error", len(got))
			}
		})
	}
}

// TestTwoPutsBySHA512 sends a second PUT while the first one completes. Each has parts
// of its own, and both succeed.
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
			u = startUpload(t, r, digest.SHA512)
			if err := finishAll(t, r, u, p, d); err != nil {
				t.Errorf("the first PUT: %v", err)
			}
			if first {
				t.Error("no PUT completed an upload")
			}
			if got, err := r.Get(t.Context(), d); err != nil || !bytes.Equal(got, p) {
				t.Errorf("Get = %d bytes, %v", len(got), err)
			}
		})
	}
}

// TestNoAliasForDamagedBytes sets an alias of a blob whose bytes were changed.
func TestNoAliasForDamagedBytes(t *testing.T) {
	b := buckets(t)["S3"](t)
	r := repository(t, openStore(t, b, smallParts()), "a")
	p, rotten := randomBytes(1, 100_000), randomBytes(2, 100_000)
	desc, err := r.Put(t.Context(), "", p)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := r.links().find(t.Context(), desc.Digest, false)
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
