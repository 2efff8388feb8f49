package ocihttp

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// wire is a connection to a server, on which a test writes requests that a client
// of net/http would not send.
type wire struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *wire {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &wire{conn, bufio.NewReader(conn)}
}

// send writes a request or a part of one.
func (w *wire) send(t *testing.T, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// fullResponse is a response and its body.
type fullResponse struct {
	*http.Response
	body string
}

// readResponse reads the response to a request with that method.
func (w *wire) readResponse(t *testing.T, method string) fullResponse {
	t.Helper()
	resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("response to %s: %v", method, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("body of the response to %s: %v", method, err)
	}
	return fullResponse{resp, string(body)}
}

// openMemory opens a bucket in store, as another replica would.
func openMemory(t *testing.T, store *memory.Store) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newHandler(t *testing.T, b drivers.Bucket, storeConfig blobstore.Config, cfg Config) http.Handler {
	t.Helper()
	store, err := blobstore.Open(t.Context(), b, storeConfig)
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// serve serves h as cmd/berth does, and returns its address.
func serve(t *testing.T, h http.Handler) (addr string) {
	t.Helper()
	return serveLimited(t, h, Unread{})
}

// serveLimited is serve with limits for unread bodies.
func serveLimited(t *testing.T, h http.Handler, limits Unread) (addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(RespondFirst(t.Context(), h, limits))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// statusHandler returns a handler that does not read the body. It responds with
// the status in the query, and with a body if the status allows one.
func statusHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.URL.RawQuery)
		if err != nil {
			panic(err)
		}
		w.Header().Set("Location", "/here")
		if status == http.StatusNoContent {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Length", "6")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "answer")
	})
}

// habits returns the two kinds of stores: one to which bodies are streamed, and
// one to which they are buffered and sent in parts.
func habits() map[string]memory.Habits {
	buffered := memory.S3()
	buffered.Limits.MinPart = 64 << 10
	return map[string]memory.Habits{"streamed": {}, "buffered": buffered}
}

// smallMemory is memory for 16 segments, and parts of one segment each.
var smallMemory = blobstore.UploadConfig{Memory: 1 << 20, PartSize: 64 << 10}

// start starts an upload and returns its Location.
func (w *wire) start(t *testing.T) string {
	t.Helper()
	w.send(t, "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	resp := w.readResponse(t, http.MethodPost)
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("POST = %s, want 202", resp.Status)
	}
	return resp.Header.Get("Location")
}

// status returns the response to a GET of an upload.
func (w *wire) status(t *testing.T, location string) fullResponse {
	t.Helper()
	w.send(t, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", location)
	return w.readResponse(t, http.MethodGet)
}

// finish finishes an upload with the rest of its content.
func (w *wire) finish(t *testing.T, location, rest string, d digest.Digest) {
	t.Helper()
	w.send(t, "PUT %s&digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", location, d, len(rest), rest)
	if resp := w.readResponse(t, http.MethodPut); resp.StatusCode != http.StatusCreated {
		t.Fatalf("PUT = %s, want 201: %s", resp.Status, resp.body)
	}
}
