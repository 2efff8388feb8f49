package ocihttp

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/memory"
)

// http2Server returns a client and the URL of a server for h that supports
// HTTP/2.
func http2Server(t *testing.T, h http.Handler) (*http.Client, string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	transport, ok := s.Client().Transport.(*http.Transport)
	if !ok || transport.TLSClientConfig == nil || transport.TLSClientConfig.MinVersion > tls.VersionTLS13 {
		t.Fatalf("transport is a %T", s.Client().Transport)
	}
	return s.Client(), s.URL
}

// doHTTP2 sends a request over HTTP/2 and reads the response.
func doHTTP2(t *testing.T, client *http.Client, base, method, target string, body io.Reader) fullResponse {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	if u, err = u.Parse(target); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, u.String(), body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Fatalf("%s %s was answered over %s, want HTTP/2", method, target, resp.Proto)
	}
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fullResponse{resp, string(p)}
}

// Uploads and reads also work over HTTP/2, where the deadline of a body is that of
// its stream.
func TestHTTP2(t *testing.T) {
	client, base := http2Server(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{IdleTimeout: 200 * time.Millisecond}))
	do := func(method, target string, body io.Reader) fullResponse {
		t.Helper()
		return doHTTP2(t, client, base, method, target, body)
	}
	location := do("POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
	resp := do("PATCH", location, struct{ io.Reader }{strings.NewReader("hel")})
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Range") != "0-2" {
		t.Fatalf("PATCH = %s, Range %q, want 202, 0-2", resp.Status, resp.Header.Get("Range"))
	}

	idle, stop := io.Pipe()
	t.Cleanup(func() { _ = stop.Close() })
	go func() { _, _ = io.WriteString(stop, "l") }() // it fails if the response comes first
	resp = do("PATCH", resp.Header.Get("Location"), idle)
	if resp.StatusCode != http.StatusRequestTimeout || resp.Header.Get("Range") != "0-3" {
		t.Fatalf("PATCH of an idle client = %s, Range %q, want 408, 0-3: %s", resp.Status, resp.Header.Get("Range"), resp.body)
	}
	resp = do("PUT", resp.Header.Get("Location")+"&digest="+sha256Hello, strings.NewReader("o"))
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("PUT = %s, want 201: %s", resp.Status, resp.body)
	}
	if resp := do("HEAD", "/v2/a/blobs/"+sha256Hello, nil); resp.StatusCode != http.StatusOK || resp.ContentLength != 5 {
		t.Errorf("HEAD = %s, Content-Length %d, want 200, 5", resp.Status, resp.ContentLength)
	}
	if resp := do("GET", "/v2/a/blobs/"+sha256Hello, nil); resp.StatusCode != http.StatusOK || resp.body != "hello" {
		t.Errorf("GET = %s, %q, want 200, hello", resp.Status, resp.body)
	}
}
