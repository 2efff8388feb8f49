package blobstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
)

// buckets are what the tests of this package run on: each opener gives another
// view of one bucket, as replicas have.
func buckets(t *testing.T) map[string]func(t *testing.T) drivers.Bucket {
	t.Helper()
	small := memory.S3()
	small.Limits.MinPart = 64 << 10
	inMemory := func(h memory.Habits) func(t *testing.T) drivers.Bucket {
		store := &memory.Store{Habits: h}
		return func(t *testing.T) drivers.Bucket {
			b, err := memory.Open(t.Context(), memory.Config{Store: store})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	root := t.TempDir()
	return map[string]func(t *testing.T) drivers.Bucket{
		"S3":     inMemory(small),
		"GCS":    inMemory(memory.GCS()),
		"Azure":  inMemory(memory.Azure()),
		"memory": inMemory(memory.Habits{}),
		"filesystem": func(t *testing.T) drivers.Bucket {
			b, err := filesystem.Open(t.Context(), filesystem.Config{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { b.Close() })
			return b
		},
	}
}

// smallParts makes the parts of uploads small enough for tests.
func smallParts() Config {
	return Config{Upload: UploadConfig{Memory: 8 << 20, PartSize: 128 << 10}}
}

func openStore(t *testing.T, b drivers.Bucket, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func repository(t *testing.T, s *Store, name string) *Repository {
	t.Helper()
	named, err := reference.WithName(name)
	if err != nil {
		t.Fatal(err)
	}
	return s.Repository(named)
}

func randomBytes(seed uint64, n int) []byte {
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	p := make([]byte, n)
	rng.Read(p) //nolint:errcheck // it never fails
	return p
}

// The three ways in which clients push, and a fourth that nobody should: in
// pieces of any size, each by another replica.
func TestPush(t *testing.T) {
	sizes := []int{0, 1, 16 << 10, 16<<10 + 1, 100_000, 128 << 10, 128<<10 + 1, 1_000_000, 2_000_000}
	ways := map[string]func(ctx context.Context, replicas []*Repository, p []byte, d digest.Digest) error{
		"POST+PUT": func(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
			u, err := r[0].StartUpload("")
			if err != nil {
				return err
			}
			_, err = r[1].FinishUpload(ctx, u.ID, u.State, Body{bytes.NewReader(p), int64(len(p)), -1, nil}, Descriptor{Digest: d})
			return err
		},
		"POST+PUT of unknown length": func(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
			u, err := r[0].StartUpload("")
			if err != nil {
				return err
			}
			_, err = r[1].FinishUpload(ctx, u.ID, u.State, Body{bytes.NewReader(p), -1, -1, nil}, Descriptor{Digest: d})
			return err
		},
		"POST+PATCH+PUT": func(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
			u, err := r[0].StartUpload("")
			if err != nil {
				return err
			}
			if u, err = r[1].AppendUpload(ctx, u.ID, u.State, Body{bytes.NewReader(p), -1, -1, nil}); err != nil {
				return err
			}
			_, err = r[0].FinishUpload(ctx, u.ID, u.State, Body{bytes.NewReader(nil), 0, -1, nil}, Descriptor{Digest: d})
			return err
		},
		"chunks": func(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
			u, err := r[0].StartUpload("")
			if err != nil {
				return err
			}
			chunk := max(len(p)/5, 1)
			off := 0
			for ; len(p)-off > chunk; off += chunk {
				if u, err = r[off%2].AppendUpload(ctx, u.ID, u.State, Body{bytes.NewReader(p[off : off+chunk]), int64(chunk), int64(off), nil}); err != nil {
					return err
				}
			}
			_, err = r[0].FinishUpload(ctx, u.ID, u.State, Body{bytes.NewReader(p[off:]), int64(len(p) - off), int64(off), nil}, Descriptor{Digest: d})
			return err
		},
		"writer": func(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
			w, err := r[0].Create(ctx)
			if err != nil {
				return err
			}
			if _, err := w.Write(p[:len(p)/3]); err != nil {
				return err
			}
			if err := w.Close(); err != nil {
				return err
			}
			if len(p)/3 > 0 {
				if w, err = r[1].Resume(ctx, w.ID()); err != nil {
					return err
				}
			} else if w, err = r[1].Create(ctx); err != nil {
				return err
			}
			if _, err := io.Copy(w, bytes.NewReader(p[len(p)/3:])); err != nil {
				return err
			}
			_, err = w.Commit(ctx, Descriptor{Digest: d, Size: int64(len(p))})
			return err
		},
		"Put": func(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
			_, err := r[0].Put(ctx, "", p)
			return err
		},
	}
	for name, open := range buckets(t) {
		for way, push := range ways {
			t.Run(name+"/"+way, func(t *testing.T) {
				for i, size := range sizes {
					for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
						if alg != digest.SHA256 && way != "POST+PUT" && way != "POST+PUT of unknown length" {
							continue
						}
						p := randomBytes(uint64(i)+uint64(len(way))<<8, size)
						d := alg.FromBytes(p)
						replicas := []*Repository{
							repository(t, openStore(t, open(t), smallParts()), "library/x"),
							repository(t, openStore(t, open(t), smallParts()), "library/x"),
						}
						for range 2 { // the second finds it all there
							if err := push(t.Context(), replicas, p, d); err != nil {
								t.Fatalf("push of %d bytes: %v", size, err)
							}
							got, err := replicas[0].Get(t.Context(), d)
							if err != nil || !bytes.Equal(got, p) {
								t.Fatalf("Get of %d bytes = %d bytes, %v", size, len(got), err)
							}
						}
						if _, err := repository(t, openStore(t, open(t), smallParts()), "other").Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
							t.Errorf("Stat in another repository = %v, want ErrBlobUnknown", err)
						}
					}
				}
			})
		}
	}
}
