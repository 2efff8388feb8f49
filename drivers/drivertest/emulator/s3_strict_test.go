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

// heldServer is a server behind the proxy of strictS3. It reports each request that
// arrives, and answers PUT only after release is closed.
type heldServer struct {
	*testing.T
	proxy   string // its URL
	arrived chan string
	release chan struct{}
}

// long is how long the tests wait for what must happen.
const long = 5 * time.Second

func newHeldServer(t *testing.T) *heldServer {
	t.Helper()
	s := &heldServer{T: t, arrived: make(chan string, 8), release: make(chan struct{})}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.proxy = newStrictS3(t, server.URL)
	return s
}

func (s *heldServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		s.arrived <- "part of a body"
		return
	}
	s.arrived <- r.Method + " " + r.Host + r.URL.Path
	if r.Method == http.MethodPut {
		select {
		case <-s.release:
		case <-time.After(2 * long):
		}
	}
	w.Header().Set("Server", "VERSITYGW")
}

// wantArrived fails the test unless this is the next request to arrive.
func (s *heldServer) wantArrived(want string) {
	s.Helper()
	select {
	case got := <-s.arrived:
		if got != want {
			s.Fatalf("the server receives %s, want %s", got, want)
		}
	case <-time.After(long):
		s.Fatalf("the server does not receive %s", want)
	}
}

// send sends a conditional request through the proxy.
func (s *heldServer) send(ctx context.Context, method, path string) error {
	req, err := http.NewRequestWithContext(ctx, method, s.proxy+path, strings.NewReader("body"))
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
		s.Errorf("Server of the response to %s %s = %q, want AmazonS3", method, path, got)
	}
	return nil
}

// TestStrictS3 checks that a conditional delete waits for a write of its key, that
// other deletes do not, and that the write continues if its client disconnects.
func TestStrictS3(t *testing.T) {
	t.Parallel()
	s := newHeldServer(t)
	ctx, leave := context.WithCancel(t.Context())
	written, deleted := make(chan error, 1), make(chan error, 1)
	go func() { written <- s.send(ctx, http.MethodPut, "/bucket/key") }()
	s.wantArrived("PUT signed/bucket/key")
	leave()
	if err := <-written; !errors.Is(err, context.Canceled) {
		t.Fatalf("PUT with a client that disconnects = %v, want %v", err, context.Canceled)
	}
	go func() { deleted <- s.send(t.Context(), http.MethodDelete, "/bucket/key") }()
	if err := s.send(t.Context(), http.MethodDelete, "/bucket/other"); err != nil {
		t.Fatal(err)
	}
	s.wantArrived("DELETE signed/bucket/other")
	select {
	case got := <-s.arrived:
		t.Fatalf("the server receives %s while it writes that key", got)
	case <-time.After(100 * time.Millisecond):
	}
	close(s.release)
	s.wantArrived("DELETE signed/bucket/key")
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
}

// TestStrictS3BrokenBody checks that a write whose body breaks off ends.
func TestStrictS3BrokenBody(t *testing.T) {
	t.Parallel()
	s := newHeldServer(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.proxy, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "PUT /bucket/key HTTP/1.1\r\nHost: signed\r\nContent-Length: 1000\r\n\r\nbody"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	s.wantArrived("part of a body")
}
