package ocihttp

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
)

// chunk is a part of a layer.
type chunk struct{ off, n int }

// TestPartialPull pulls parts of a layer as containers/image does for
// zstd:chunked: with one request for all chunks. Each chunk must be a part of the
// response, in the order of the request.
func TestPartialPull(t *testing.T) {
	layer := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(layer) // never an error
	path := "/v2/a/blobs/" + digest.FromBytes(layer).String()
	var chunks, sparse []chunk
	for i := range 1000 {
		chunks = append(chunks, chunk{i * 8000, 1 + i*7919%7000})
	}
	for off := 0; off < len(layer); off += 1 << 20 {
		sparse = append(sparse, chunk{off, 3000}, chunk{off + 10_000, 400_000})
	}
	for name, open := range map[string]func(t *testing.T) drivers.Bucket{
		"memory": func(t *testing.T) drivers.Bucket { return openMemory(t, &memory.Store{}) },
		"signing store": func(t *testing.T) drivers.Bucket {
			return drivertest.Signing(openMemory(t, &memory.Store{}))
		},
		"directory": func(t *testing.T) drivers.Bucket {
			b, err := filesystem.Open(t.Context(), filesystem.Config{Root: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { b.Close() })
			return b
		},
	} {
		var counter drivertest.Counter
		base := "http://" + serve(t, newHandler(t, drivertest.Wrap(open(t), counter.Intercept), blobstore.Config{}, Config{}))
		res, err := http.Post(base+"/v2/a/blobs/uploads/?digest="+digest.FromBytes(layer).String(), "application/octet-stream", bytes.NewReader(layer))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		for _, test := range []struct {
			chunks   []chunk
			requests int // to the store; one for a directory
		}{{chunks, 1}, {sparse, 8}} {
			for range 2 { // the first time also reads the link
				counter.Reset()
				if err := pullChunks(t, base+path, layer, test.chunks); err != nil {
					t.Errorf("%s: %d chunks: %v", name, len(test.chunks), err)
				}
			}
			if name == "directory" {
				test.requests = 1
			}
			if n := counter.Total(); n != test.requests {
				t.Errorf("%s: %d chunks took %d requests to the store, want %d", name, len(test.chunks), n, test.requests)
			}
		}
	}
}

// pullChunks requests the chunks and checks their bytes.
func pullChunks(t *testing.T, url string, layer []byte, chunks []chunk) error {
	t.Helper()
	var ranges []string
	for _, c := range chunks {
		ranges = append(ranges, fmt.Sprintf("%d-%d", c.off, c.off+c.n-1))
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Range", "bytes="+strings.Join(ranges, ","))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	mediaType, params, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil || res.StatusCode != http.StatusPartialContent || mediaType != "multipart/byteranges" {
		return fmt.Errorf("%s, Content-Type %q, %w, want 206 with parts", res.Status, res.Header.Get("Content-Type"), err)
	}
	body := &countingReader{Reader: res.Body}
	parts := multipart.NewReader(body, params["boundary"])
	for i, c := range chunks {
		part, err := parts.NextPart()
		if err != nil {
			return fmt.Errorf("part %d: %w", i, err)
		}
		want := fmt.Sprintf("bytes %d-%d/%d", c.off, c.off+c.n-1, len(layer))
		if got := part.Header.Get("Content-Range"); got != want {
			return fmt.Errorf("Content-Range of part %d = %q, want %q", i, got, want)
		}
		p, err := io.ReadAll(part)
		if err != nil || !bytes.Equal(p, layer[c.off:c.off+c.n]) {
			return fmt.Errorf("part %d = %d bytes that differ from the chunk, %w", i, len(p), err)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		return fmt.Errorf("NextPart after the last part: %w, want io.EOF", err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil || body.n != res.ContentLength {
		return fmt.Errorf("%d bytes, %w, want the %d of Content-Length", body.n, err, res.ContentLength)
	}
	return nil
}

type countingReader struct {
	io.Reader

	n int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	return n, err
}
