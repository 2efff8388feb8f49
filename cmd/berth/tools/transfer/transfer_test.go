package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/tools/name"
	"github.com/berthhq/berth/cmd/berth/tools/origin"
	"github.com/berthhq/berth/cmd/berth/tools/transfer"
	"github.com/berthhq/berth/drivers/memory"
)

func openStore(t *testing.T) *blobstore.Store {
	t.Helper()
	bucket, err := memory.Open(t.Context(), memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bucket.Close() })
	s, err := blobstore.Open(t.Context(), bucket, blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPutContinues interrupts a put by an error of its input and by the end of its
// context, and continues it.
func TestPutContinues(t *testing.T) {
	repo := openStore(t).Repository(name.Repository("app"))
	p := bytes.Repeat([]byte("0123456789"), 100_000)
	broken := errors.New("broken")
	_, err := transfer.Put(t.Context(), repo, transfer.Upload{}, io.MultiReader(bytes.NewReader(p[:300_000]), iotest.ErrReader(broken)))
	first, ok := errors.AsType[*transfer.InterruptedError](err)
	if !ok || !errors.Is(err, broken) || first.Size != 300_000 {
		t.Fatalf("Put whose input breaks = %+v, want an InterruptedError with 300000 bytes", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	terminal, _ := io.Pipe() // has no more to read
	input := transfer.Interruptible(ctx, io.MultiReader(bytes.NewReader(p[:600_000]), readerFunc(func(q []byte) (int, error) {
		cancel()
		return terminal.Read(q)
	})))
	_, err = transfer.Put(ctx, repo, transfer.Upload{Resume: first.ID}, input)
	second, ok := errors.AsType[*transfer.InterruptedError](err)
	if !ok || !errors.Is(err, context.Canceled) || second.ID != first.ID || second.Size < 300_000 {
		t.Fatalf("Put whose context ends = %+v, want an InterruptedError of the same upload", err)
	}
	if _, err := transfer.Put(t.Context(), repo, transfer.Upload{Resume: first.ID}, strings.NewReader("short")); err == nil || !strings.Contains(err.Error(), "the input has only 5") {
		t.Errorf("Put of a shorter input = %v", err)
	}
	desc, err := transfer.Put(t.Context(), repo, transfer.Upload{Resume: first.ID, Digest: digest.FromBytes(p)}, bytes.NewReader(p))
	if err != nil || desc.Digest != digest.FromBytes(p) || desc.Size != int64(len(p)) {
		t.Fatalf("Put = %+v, %v", desc, err)
	}
	if _, err := transfer.Put(t.Context(), repo, transfer.Upload{Resume: first.ID}, bytes.NewReader(p)); !errors.Is(err, blobstore.ErrBlobUploadUnknown) {
		t.Errorf("Put of an upload that has ended = %v, want ErrBlobUploadUnknown", err)
	}
	wrong := digest.SHA512.FromString("x")
	if _, err := transfer.Put(t.Context(), repo, transfer.Upload{Digest: wrong}, bytes.NewReader(p)); !strings.Contains(err.Error(), "the input has the digest sha512:") {
		t.Errorf("Put with a wrong digest = %v", err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestGetContinues continues a download after an interrupt, and after a file that has
// other bytes.
func TestGetContinues(t *testing.T) {
	p := bytes.Repeat([]byte("0123456789"), 10_000)
	for had, start := range map[string]int64{"": 0, string(p[:60_000]): 60_000, string(p): 100_000, "other bytes": 0, string(p) + "x": 0} {
		file := filepath.Join(t.TempDir(), "blob")
		d := digest.FromBytes(p)
		part := transfer.PartName(file, d)
		if err := os.WriteFile(part, []byte(had), 0o600); err != nil {
			t.Fatal(err)
		}
		last := int64(-1)
		download := transfer.Download{Digest: d, Size: int64(len(p)), Open: func(context.Context) (blobstore.ReadSeekCloser, error) {
			return &seeks{bytes.NewReader(p), &last}, nil
		}}
		if err := download.File(t.Context(), file); err != nil {
			t.Errorf("File after %d bytes: %v", len(had), err)
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, p) {
			t.Errorf("after %d bytes, the file has %d bytes, %v", len(had), len(got), err)
		}
		if start < int64(len(p)) && last != start {
			t.Errorf("after %d bytes, the last read starts at %d, want %d", len(had), last, start)
		}
		if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file %s is left: %v", part, err)
		}
	}
}

// seeks records the last offset that was sought.
type seeks struct {
	*bytes.Reader
	last *int64
}

func (s *seeks) Seek(off int64, whence int) (int64, error) {
	*s.last = off
	return s.Reader.Seek(off, whence)
}

func (s *seeks) Close() error { return nil }

// TestCopyFromBrokenRegistry copies an image from a registry that breaks each connection
// in the middle of a blob, and checks that it continues there.
func TestCopyFromBrokenRegistry(t *testing.T) {
	layer := bytes.Repeat([]byte("layer"), 100_000)
	api, image := registryWithImage(t, layer)
	var breaks, ranges atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		if strings.HasSuffix(r.URL.Path, "/blobs/"+digest.FromBytes(layer).String()) && r.Header.Get("Range") == "" && breaks.Add(1) == 1 {
			w.Header().Set("Accept-Ranges", "bytes")
			w.Header().Set("Content-Length", "500000")
			_, _ = w.Write(layer[:200_000])
			panic(http.ErrAbortHandler)
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	registry, ref, err := origin.OpenRegistry(strings.TrimPrefix(server.URL, "http://")+"/team/app:v1", origin.RegistryConfig{})
	if err != nil || ref != "v1" {
		t.Fatalf("OpenRegistry = %q, %v", ref, err)
	}
	to := openStore(t).Repository(name.Repository("mirror/app"))
	c := &transfer.Copier{From: registry, To: to, Parallel: 2}
	if m, err := c.Copy(t.Context(), ref, []string{"v1"}); err != nil || m.Digest != digest.FromBytes(image) {
		t.Fatalf("Copy = %s, %v", m.Digest, err)
	}
	if got := c.Result(); got.Copied != 2 || got.Bytes != 500_002 || breaks.Load() < 1 || ranges.Load() != 1 {
		t.Errorf("Result = %+v after %d requests for the whole layer and %d for a range, want 2 blobs and one range", got, breaks.Load(), ranges.Load())
	}
	if p, err := to.Get(t.Context(), digest.FromBytes(layer)); err != nil || !bytes.Equal(p, layer) {
		t.Errorf("the copied layer has %d bytes, %v", len(p), err)
	}
}

// registryWithImage returns a registry with team/app:v1, an image of one layer, and the
// bytes of its manifest.
func registryWithImage(t *testing.T, layer []byte) (http.Handler, []byte) {
	t.Helper()
	store := openStore(t)
	repo := store.Repository(name.Repository("team/app"))
	for _, p := range [][]byte{layer, []byte("{}")} {
		if _, err := repo.Put(t.Context(), "", p); err != nil {
			t.Fatal(err)
		}
	}
	image := []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digest.FromString("{}").String() +
		`","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + digest.FromBytes(layer).String() + `","size":500000}]}`)
	if _, err := repo.Manifests().Put(t.Context(), blobstore.ManifestPut{MediaType: manifest.MediaTypeImage, Content: image, Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	api, err := ocihttp.New(store, ocihttp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return api, image
}
