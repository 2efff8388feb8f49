package emulator

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestStrictS3 runs a test server behind the proxy. A conditional delete must
// wait for a write of its key, and other deletes must not. Both must continue
// if the client disconnects once the request has arrived.
func TestStrictS3(t *testing.T) {
	t.Parallel()
	const long = 5 * time.Second
	arrived, release := make(chan string, 8), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			arrived <- "part of a body"
			return
		}
		arrived <- r.Method + " " + r.Host + r.URL.Path
		if r.Method == http.MethodPut {
			select {
			case <-release:
			case <-time.After(2 * long):
			}
		}
		w.Header().Set("Server", "VERSITYGW")
	}))
	t.Cleanup(server.Close)
	proxy := newStrictS3(t, server.URL)
	arrives := func(want string) {
		t.Helper()
		select {
		case got := <-arrived:
			if got != want {
				t.Fatalf("the server receives %s, want %s", got, want)
			}
		case <-time.After(long):
			t.Fatalf("the server does not receive %s", want)
		}
	}
	ask := func(ctx context.Context, method, path string) error {
		req, err := http.NewRequestWithContext(ctx, method, proxy+path, strings.NewReader("body"))
		if err != nil {
			return err
		}
		req.Host = "signed"
		req.Header.Set("If-Match", `"tag"`)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Server"); got != "AmazonS3" {
			t.Errorf("%s %s is answered by %q, want AmazonS3", method, path, got)
		}
		return nil
	}

	ctx, leave := context.WithCancel(t.Context())
	written, deleted := make(chan error, 1), make(chan error, 1)
	go func() { written <- ask(ctx, http.MethodPut, "/bucket/key") }()
	arrives("PUT signed/bucket/key")
	leave()
	if err := <-written; !errors.Is(err, context.Canceled) {
		t.Fatalf("PUT with a client that disconnects = %v, want %v", err, context.Canceled)
	}
	go func() { deleted <- ask(t.Context(), http.MethodDelete, "/bucket/key") }()
	if err := ask(t.Context(), http.MethodDelete, "/bucket/other"); err != nil {
		t.Fatal(err)
	}
	arrives("DELETE signed/bucket/other")
	select {
	case got := <-arrived:
		t.Fatalf("the server receives %s while it writes that key", got)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	arrives("DELETE signed/bucket/key")
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}

	conn, err := net.Dial("tcp", strings.TrimPrefix(proxy, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "PUT /bucket/key HTTP/1.1\r\nHost: signed\r\nContent-Length: 1000\r\n\r\nbody"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	arrives("part of a body")
}
