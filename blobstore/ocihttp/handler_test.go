package ocihttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// A panic becomes a response with the request's id, which is also in the log. A
// panic in the middle of a response drops the connection, and so does
// http.ErrAbortHandler.
func TestPanic(t *testing.T) {
	var log ocihttptest.Buffer
	store := &memory.Store{}
	bucket := drivertest.Wrap(openMemory(t, store), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		switch {
		case c.Method == "Open" && strings.Contains(c.Key, "/links/panics"):
			panic("a bug")
		case c.Method == "Open" && strings.Contains(c.Key, "/links/aborts"):
			panic(http.ErrAbortHandler)
		}
		return do(ctx)
	})
	handler := newHandler(t, bucket, blobstore.Config{}, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	addr := serve(t, handler)

	w := dial(t, addr)
	w.send(t, "GET /v2/panics/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", sha256Hello)
	resp := w.readResponse(t, http.MethodGet)
	id := resp.Header.Get(RequestID)
	if resp.StatusCode != http.StatusInternalServerError || id == "" || !strings.Contains(resp.body, `"requestId":"`+id+`"`) || strings.Contains(resp.body, "a bug") {
		t.Errorf("GET = %s, %s %q, %s, want 500 with the id and without the panic", resp.Status, RequestID, id, resp.body)
	}
	for _, want := range []string{id, "a bug", "handler_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log has no %q:\n%s", want, log.String())
		}
	}

	w = dial(t, addr)
	w.send(t, "GET /v2/aborts/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", sha256Hello)
	if resp, err := http.ReadResponse(w.r, nil); err == nil {
		t.Errorf("GET that aborts = %s, want a dropped connection", resp.Status)
	}

	defer func() {
		if p, ok := recover().(error); !ok || !errors.Is(p, http.ErrAbortHandler) {
			t.Errorf("a panic after the response has started = %v, want http.ErrAbortHandler", p)
		}
	}()
	put := httptest.NewRequestWithContext(t.Context(), "POST", "/v2/a/blobs/uploads/?digest="+sha256Hello, strings.NewReader("hello"))
	handler.ServeHTTP(httptest.NewRecorder(), put)
	handler.ServeHTTP(panickingWriter{httptest.NewRecorder()}, httptest.NewRequestWithContext(t.Context(), "GET", "/v2/a/blobs/"+sha256Hello, nil))
}

// panickingWriter is a response whose Write panics.
type panickingWriter struct {
	http.ResponseWriter
}

func (panickingWriter) Write([]byte) (int, error) { panic("another bug") }

// The request's id is random, unless a handler around this one has set it.
func TestRequestID(t *testing.T) {
	h := newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{})
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v2/", nil)
	r.Header.Set(RequestID, "the client's")
	seen := map[string]bool{"": true, "the client's": true}
	for range 10 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if id := w.Header().Get(RequestID); seen[id] {
			t.Errorf("%s = %q, which was used before", RequestID, id)
		}
		seen[w.Header().Get(RequestID)] = true
	}
	w := httptest.NewRecorder()
	w.Header().Set(RequestID, "ours")
	h.ServeHTTP(w, r)
	if got := w.Header().Get(RequestID); got != "ours" {
		t.Errorf("%s = %q, want the id that was set", RequestID, got)
	}
}

func TestPublicURL(t *testing.T) {
	store, err := blobstore.Open(t.Context(), openMemory(t, &memory.Store{}), blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{"", "http://a", "https://a:5000/", "https://a/b/"} {
		if _, err := New(store, Config{PublicURL: good}); err != nil {
			t.Errorf("New(PublicURL: %q) = %v, want no error", good, err)
		}
	}
	for _, bad := range []string{"a", "/a", "ftp://a", "https://", "https://a?b", "https://a#b", "https://a\x00", "://"} {
		if _, err := New(store, Config{PublicURL: bad}); err == nil || !strings.Contains(err.Error(), "ocihttp.Config.PublicURL") {
			t.Errorf("New(PublicURL: %q) = %v, want an error that names the field", bad, err)
		}
	}
}
