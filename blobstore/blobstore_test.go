package blobstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
)

// buckets returns an opener for a bucket of each kind of store. All calls of one
// opener return the same bucket, as replicas see it.
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

// smallParts returns a configuration with parts that are small enough for tests.
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

// pushWay is a way in which clients push: p by the digest d, to one of two replicas
// or to both.
type pushWay func(ctx context.Context, replicas []*Repository, p []byte, d digest.Digest) error

// pushWays returns the three ways of the specification and, besides, a push in
// pieces of any size to several replicas.
func pushWays() map[string]pushWay {
	return map[string]pushWay{
		"POST+PUT":                   pushByPut,
		"POST+PUT of unknown length": pushByStream,
		"POST+PATCH+PUT":             pushByOnePatch,
		"chunks":                     pushInFiveChunks,
		"writer":                     pushByWriters,
		"Put": func(ctx context.Context, r []*Repository, p []byte, _ digest.Digest) error {
			_, err := r[0].Put(ctx, "", p)
			return err
		},
	}
}

func pushByPut(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
	return pushBody(ctx, r, bodyOf(p), d)
}

func pushByStream(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
	return pushBody(ctx, r, streamOf(p), d)
}

func pushBody(ctx context.Context, r []*Repository, body Body, d digest.Digest) error {
	u, err := r[0].StartUpload("")
	if err != nil {
		return err
	}
	_, err = r[1].FinishUpload(ctx, u.ID, u.State, body, Descriptor{Digest: d})
	return err
}

func pushByOnePatch(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
	u, err := r[0].StartUpload("")
	if err != nil {
		return err
	}
	if u, err = r[1].AppendUpload(ctx, u.ID, u.State, streamOf(p)); err != nil {
		return err
	}
	_, err = r[0].FinishUpload(ctx, u.ID, u.State, bodyOf(nil), Descriptor{Digest: d})
	return err
}

func pushInFiveChunks(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
	u, err := r[0].StartUpload("")
	if err != nil {
		return err
	}
	body := func(from, to int) Body {
		b := bodyOf(p[from:to])
		b.Start = int64(from)
		return b
	}
	chunk := max(len(p)/5, 1)
	off := 0
	for ; len(p)-off > chunk; off += chunk {
		if u, err = r[off%2].AppendUpload(ctx, u.ID, u.State, body(off, off+chunk)); err != nil {
			return err
		}
	}
	_, err = r[0].FinishUpload(ctx, u.ID, u.State, body(off, len(p)), Descriptor{Digest: d})
	return err
}

// pushByWriters writes a third of p at one replica and the rest at the other. A
// writer that was closed without any bytes cannot be resumed.
func pushByWriters(ctx context.Context, r []*Repository, p []byte, d digest.Digest) error {
	w, err := r[0].Create(ctx)
	if err != nil {
		return err
	}
	third := len(p) / 3
	if _, err := w.Write(p[:third]); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if third > 0 {
		w, err = r[1].Resume(ctx, w.ID())
	} else {
		w, err = r[1].Create(ctx)
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, bytes.NewReader(p[third:])); err != nil {
		return err
	}
	_, err = w.Commit(ctx, Descriptor{Digest: d, Size: int64(len(p))})
	return err
}

// TestPush pushes blobs of many sizes in every way to every kind of store.
func TestPush(t *testing.T) {
	sizes := []int{0, 1, 16 << 10, 16<<10 + 1, 100_000, 128 << 10, 128<<10 + 1, 600_000}
	for name, open := range buckets(t) {
		for way, push := range pushWays() {
			t.Run(name+"/"+way, func(t *testing.T) {
				replica := func(repo string) *Repository {
					return repository(t, openStore(t, open(t), smallParts()), repo)
				}
				replicas := []*Repository{replica("library/x"), replica("library/x")}
				other := replica("library/other")
				for i, size := range sizes {
					p := randomBytes(uint64(i)+uint64(len(way))<<8, size)
					testPush(t, push, replicas, other, p, digest.FromBytes(p))
					if strings.HasPrefix(way, "POST+PUT") {
						testPush(t, push, replicas, other, p, digest.SHA512.FromBytes(p))
					}
				}
			})
		}
	}
}

// testPush pushes p twice. The second push finds that it exists.
func testPush(t *testing.T, push pushWay, replicas []*Repository, other *Repository, p []byte, d digest.Digest) {
	t.Helper()
	for range 2 {
		if err := push(t.Context(), replicas, p, d); err != nil {
			t.Fatalf("push of %d bytes: %v", len(p), err)
		}
		got, err := replicas[0].Get(t.Context(), d)
		if err != nil || !bytes.Equal(got, p) {
			t.Fatalf("Get of %d bytes = %d bytes, %v", len(p), len(got), err)
		}
	}
	if _, err := other.Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("Stat in another repository = %v, want ErrBlobUnknown", err)
	}
}
