package ocihttp

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// wire is a connection to a server, on which requests are written byte by byte,
// as no client of net/http would.
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

// send writes a request, or a piece of one.
func (w *wire) send(t *testing.T, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// received is an answer with its body, which was read.
type received struct {
	*http.Response
	body string
}

// answer reads the answer to a request of that method.
func (w *wire) answer(t *testing.T, method string) received {
	t.Helper()
	resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("answer to %s: %v", method, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("body of the answer to %s: %v", method, err)
	}
	return received{resp, string(body)}
}

// openMemory is another view of a bucket.
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

// serve serves h as berth does, and returns its address.
func serve(t *testing.T, h http.Handler) (addr string) {
	t.Helper()
	return serveLimited(t, h, Unread{})
}

// serveLimited is serve with limits for the bodies that are not read.
func serveLimited(t *testing.T, h http.Handler, limits Unread) (addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(AnswerFirst(t.Context(), h, limits))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
