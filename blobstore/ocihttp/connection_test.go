package ocihttp

import (
	"net/http"
	"strings"
	"testing"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/memory"
)

// A connection is reused after an error if the rest of the body is short.
func TestConnectionIsReused(t *testing.T) {
	addr := serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{}))
	w := dial(t, addr)
	location := w.start(t)
	for _, c := range []struct {
		request string // with its body
		status  int
	}{
		{"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 404},
		{"PATCH /v2/A/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
		{"PATCH " + location + " HTTP/1.1\r\nHost: x\r\nContent-Range: 7-11\r\nContent-Length: 5\r\n\r\nhello", 416},
		{"PUT " + location + "&digest=" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nother", 400},
		{"PUT /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000), 405},
		{"GET /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 404},
		{"HEAD /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"PUT " + location + "&digest=" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 201},
		{"GET /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nRange: bytes=9-\r\n\r\n", 416},
		{"GET /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\n\r\n", 200},
	} {
		w.send(t, "%s", c.request)
		method, _, _ := strings.Cut(c.request, " ")
		resp := w.readResponse(t, method)
		if resp.StatusCode != c.status || resp.Close {
			t.Errorf("%.60q = %s, Close %v, want %d and an open connection: %s", c.request, resp.Status, resp.Close, c.status, resp.body)
		}
		if method == http.MethodHead && w.r.Buffered() > 0 {
			t.Errorf("the response to %.60q has a body", c.request)
		}
	}
}

// A client may send requests before it has read the responses to earlier ones.
func TestPipelining(t *testing.T) {
	addr := serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{}))
	w := dial(t, addr)
	location := w.start(t)
	w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Range: 7-11\r\nContent-Length: 5\r\n\r\nhello"+
		"HEAD /v2/a/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n"+
		"PUT %s&digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"+
		"GET /v2/a/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", location, sha256Hello, location, sha256Hello, sha256Hello)
	for _, want := range []struct {
		method string
		status int
	}{{"PATCH", 416}, {"HEAD", 404}, {"PUT", 201}, {"GET", 200}} {
		if resp := w.readResponse(t, want.method); resp.StatusCode != want.status {
			t.Errorf("%s = %s, want %d", want.method, resp.Status, want.status)
		}
	}
}

// A client that sends Expect gets 100 Continue only if its body is needed.
func TestExpectContinue(t *testing.T) {
	addr := serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{Upload: blobstore.UploadConfig{MaxBlobSize: 10}}, Config{}))
	location := dial(t, addr).start(t)
	const expect = " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n%s\r\n"
	for _, c := range []struct {
		target string
		length int
		header string
		want   int
	}{
		{"PATCH /v2/a/blobs/uploads/x?_state=forged", 5, "", 404},
		{"PUT " + location + "&digest=sha256:abc", 5, "", 400},
		{"PUT " + location + "&digest=" + sha256Hello, 11, "", 413},
		{"PUT " + location + "&digest=" + sha256Hello, 5, "Content-Range: 5-9\r\n", 416},
		{"PUT " + location + "&digest=" + sha256Hello, 5, "Content-Range: 0-9\r\n", 400},
		{"PUT /v2/a/blobs/" + sha256Hello, 5, "", 405},
		{"PUT " + location + "&digest=" + sha256Hello, 5, "", 100},
	} {
		w := dial(t, addr)
		w.send(t, "%s"+expect, c.target, c.length, c.header)
		resp, err := http.ReadResponse(w.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.want {
			t.Errorf("%s, %d bytes, %q = %s, want %d", c.target, c.length, c.header, resp.Status, c.want)
		}
		if resp.StatusCode != http.StatusContinue {
			continue
		}
		w.send(t, "hello")
		if resp := w.readResponse(t, http.MethodPut); resp.StatusCode != http.StatusCreated {
			t.Errorf("PUT = %s, want 201", resp.Status)
		}
	}
}
