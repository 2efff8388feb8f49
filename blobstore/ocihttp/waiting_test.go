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

// stallingClients hold all the memory of a server by starting PATCH requests that
// they do not finish.
type stallingClients struct {
	t         *testing.T
	server    *httptest.Server
	bodies    []io.Closer
	responses chan *http.Response
}

// send sends a request and returns the response, or nil if there is none.
func send(t *testing.T, server *httptest.Server, method, target string, body io.Reader) *http.Response {
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+target, body)
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

// start starts n requests and sends 100 bytes of each body.
func (c *stallingClients) start(n int) {
	c.t.Helper()
	c.responses = make(chan *http.Response, n)
	for range n {
		location := send(c.t, c.server, http.MethodPost, "/v2/test/blobs/uploads/", nil).Header.Get("Location")
		r, w := io.Pipe()
		c.bodies = append(c.bodies, w)
		go func() { c.responses <- send(c.t, c.server, http.MethodPatch, location, r) }()
		if _, err := w.Write([]byte(strings.Repeat("x", 100))); err != nil {
			c.t.Fatal(err)
		}
	}
}

// finish ends the bodies and checks the responses: the bytes are stored, or the
// request was refused.
func (c *stallingClients) finish() {
	c.t.Helper()
	for _, b := range c.bodies {
		b.Close()
	}
	for range c.bodies {
		switch res := <-c.responses; {
		case res == nil: // send has failed the test
		case res.StatusCode == http.StatusAccepted && res.Header.Get("Range") == "0-99":
		case res.StatusCode == http.StatusTooManyRequests:
		default:
			c.t.Errorf("PATCH of a stalling client = %d, Range %q, want 202 with its 100 bytes, or 429", res.StatusCode, res.Header.Get("Range"))
		}
	}
}

// While stalling clients hold all the memory and no request may wait for memory, a
// large body gets 429 with Retry-After, and a small one is stored. The
// bytes of a stalling client are stored, unless its request is refused.
func TestTooManyWaitForMemory(t *testing.T) {
	buffered := memory.S3()
	buffered.Limits.MinPart = 64 << 10
	server := httptest.NewServer(newHandler(t, openMemory(t, &memory.Store{Habits: buffered}), blobstore.Config{
		Upload: blobstore.UploadConfig{Memory: 1 << 20, PartSize: 128 << 10, MaxWaiting: -1},
	}, Config{}))
	defer server.Close()
	push := func(data []byte) *http.Response {
		return send(t, server, http.MethodPost, "/v2/test/blobs/uploads/?digest="+digest.FromBytes(data).String(), bytes.NewReader(data))
	}
	clients := &stallingClients{t: t, server: server}
	clients.start(12) // each holds one of about 11 segments of 64 KiB
	large := bytes.Repeat([]byte("large "), 20_000)
	var res *http.Response
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if res = push(large); res.StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("POST with no memory left = %d, Retry-After %q, want 429 with a value", res.StatusCode, res.Header.Get("Retry-After"))
	}
	if res := push([]byte("small")); res.StatusCode != http.StatusCreated {
		t.Errorf("POST of a small body with no memory left = %d, want 201", res.StatusCode)
	}
	clients.finish()
	if res := push(large); res.StatusCode != http.StatusCreated {
		t.Errorf("POST after memory was released = %d, want 201", res.StatusCode)
	}
}
