package ocihttp

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/memory"
)

// TestTooManyWaitForMemory: stalling clients hold all the memory that there is,
// and nobody may wait. Another body gets 429 with Retry-After, a small one is
// served all the same; and what the others have sent is kept.
func TestTooManyWaitForMemory(t *testing.T) {
	habits := memory.S3()
	habits.Limits.MinPart = 64 << 10
	bucket, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: habits}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := blobstore.Open(t.Context(), bucket, blobstore.Config{
		Upload: blobstore.UploadConfig{Memory: 1 << 20, PartSize: 128 << 10, MaxWaiting: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := New(store, Config{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	send := func(method, url string, body io.Reader) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, url, body)
		if err != nil {
			t.Error(err)
			return nil
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Error(err)
			return nil
		}
		res.Body.Close()
		return res
	}
	push := func(data []byte) *http.Response {
		return send(http.MethodPost, server.URL+"/v2/test/blobs/uploads/?digest="+digest.FromBytes(data).String(), bytes.NewReader(data))
	}

	const stalling = 12 // one holds a segment of 64 KiB; there are 11 or so
	answers := make(chan *http.Response, stalling)
	var release []io.Closer
	for range stalling {
		location := send(http.MethodPost, server.URL+"/v2/test/blobs/uploads/", nil).Header.Get("Location")
		r, w := io.Pipe()
		release = append(release, w)
		go func() { answers <- send(http.MethodPatch, server.URL+location, r) }()
		if _, err := w.Write([]byte(strings.Repeat("x", 100))); err != nil {
			t.Fatal(err)
		}
	}
	large := bytes.Repeat([]byte("large "), 20_000)
	var res *http.Response
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if res = push(large); res.StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("POST with no memory left = %d, Retry-After %q; want 429 and some", res.StatusCode, res.Header.Get("Retry-After"))
	}
	if res := push([]byte("small")); res.StatusCode != http.StatusCreated {
		t.Errorf("POST of a small body with no memory left = %d, want 201", res.StatusCode)
	}
	for _, r := range release {
		r.Close()
	}
	for range stalling {
		switch res := <-answers; {
		case res.StatusCode == http.StatusAccepted && res.Header.Get("Range") == "0-99":
		case res.StatusCode == http.StatusTooManyRequests:
		default:
			t.Errorf("a PATCH that stalled = %d, Range %q; want 202 with its 100 bytes, or 429", res.StatusCode, res.Header.Get("Range"))
		}
	}
	if res := push(large); res.StatusCode != http.StatusCreated {
		t.Errorf("POST with memory again = %d, want 201", res.StatusCode)
	}
}
