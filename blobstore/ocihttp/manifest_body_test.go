package ocihttp

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// indexOf returns an index without manifests, of about n bytes.
func indexOf(n int) string {
	return `{"schemaVersion":2,"manifests":[],"annotations":{"x":"` + strings.Repeat("x", max(n-57, 0)) + `"}}`
}

// putIndex is the head of a PUT of an index.
const putIndex = "PUT /v2/a/manifests/%s HTTP/1.1\r\nHost: x\r\nContent-Type: " + typeIndex + "\r\n"

// wantNoManifest checks that nothing of a manifest was stored.
func wantNoManifest(t *testing.T, b drivers.Bucket) {
	t.Helper()
	for _, prefix := range []string{"repos/", "catalog/"} {
		for o, err := range b.List(t.Context(), prefix, "", 0) {
			t.Errorf("List = %s, %v, want nothing of a refused manifest", o.Key, err)
		}
	}
}

// A body that breaks off is an error of the client, and nothing is stored.
func TestBrokenManifest(t *testing.T) {
	bucket := openMemory(t, &memory.Store{})
	addr := serve(t, newHandler(t, bucket, blobstore.Config{}, Config{IdleTimeout: 200 * time.Millisecond}))
	whole := indexOf(100)
	for name, c := range map[string]struct {
		request string
		closed  bool // the client closes its side
		want    int
	}{
		"idle":                {"Content-Length: 100\r\n\r\n" + whole[:50], false, http.StatusRequestTimeout},
		"idle from the start": {"Content-Length: 100\r\n\r\n", false, http.StatusRequestTimeout},
		"too short":           {"Content-Length: 100\r\n\r\n" + whole[:50], true, http.StatusBadRequest},
		"a chunk too short":   {"Transfer-Encoding: chunked\r\n\r\n64\r\n" + whole[:50], true, http.StatusBadRequest},
		"no last chunk":       {fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(whole), whole), true, http.StatusBadRequest},
		"not a chunk":         {fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nx\r\n", len(whole), whole), false, http.StatusBadRequest},
		"no body":             {"\r\n", false, http.StatusBadRequest},
		"empty":               {"Content-Length: 0\r\n\r\n", false, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, addr)
			w.send(t, putIndex+"%s", "latest", c.request)
			if closer, ok := w.Conn.(interface{ CloseWrite() error }); ok && c.closed {
				if err := closer.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			resp := w.readResponse(t, http.MethodPut)
			if resp.StatusCode != c.want || !strings.Contains(resp.body, codeManifestInvalid) {
				t.Errorf("PUT = %s %s, want %d %s", resp.Status, resp.body, c.want, codeManifestInvalid)
			}
		})
	}
	w := dial(t, addr)
	w.send(t, putIndex+"Content-Length: 100\r\n\r\nx", "latest")
	w.Close()
	wantNoManifest(t, bucket)
}

// While clients with large manifests hold the memory and stall, a small manifest is
// stored, and a large one is stored after the slow clients were cut off with 503.
func TestSlowManifestsAreCutOff(t *testing.T) {
	bucket := openMemory(t, &memory.Store{})
	h := newHandler(t, bucket, blobstore.Config{Manifests: blobstore.ManifestConfig{MaxSize: 64 << 10, Memory: 1 << 20}}, Config{})
	inBubble(t, h, Unread{}, func(t *testing.T, l *ocihttptest.Pipes, _ context.CancelFunc) {
		var slow []*wire
		for range 4 { // they hold all segments except those set aside
			w := dialPipe(l)
			w.send(t, putIndex+"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "slow")
			slow = append(slow, w)
		}
		time.Sleep(time.Minute)
		push := func(body string) {
			t.Helper()
			w := dialPipe(l)
			defer w.Close()
			w.send(t, putIndex+"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", "fast", len(body), body)
			if resp := w.readResponse(t, http.MethodPut); resp.StatusCode != http.StatusCreated {
				t.Errorf("PUT of %d bytes = %s %s, want 201", len(body), resp.Status, resp.body)
			}
		}
		push(indexOf(1000))
		push(indexOf(60_000))
		runner := dialPipe(l)
		runner.send(t, putIndex+"Content-Length: 60000\r\n\r\n{", "slow") // takes what is set aside
		synctest.Wait()
		push(indexOf(60_000))
		runner.Close()
		for _, w := range slow {
			resp := w.readResponse(t, http.MethodPut)
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(resp.body, codeUnavailable) {
				t.Errorf("PUT of a slow client = %s, Retry-After %q, %s, want 503 %s", resp.Status, resp.Header.Get("Retry-After"), resp.body, codeUnavailable)
			}
			w.Close()
		}
	})
}

// A connection is used again after a refused push, if the rest of the body is short,
// and gets 100 Continue only if the body is needed.
func TestConnectionAfterManifest(t *testing.T) {
	addr := serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{Manifests: blobstore.ManifestConfig{MaxSize: 1000}}, Config{}))
	w := dial(t, addr)
	index := indexOf(100)
	for _, c := range []struct {
		reference, header, body string
		want                    int
	}{
		{"latest", "", index + " ", http.StatusCreated},
		{"sha256:x", "", index, http.StatusBadRequest},
		{digestOf("other"), "", index, http.StatusBadRequest},
		{"latest", "If-None-Match: *\r\n", index, http.StatusPreconditionFailed},
		{"latest", "If-Match: *\r\n", index, http.StatusBadRequest},
		{"latest", "", indexOf(1001), http.StatusRequestEntityTooLarge},
		{"latest", "", indexOf(1000), http.StatusCreated},
		{digestOf(index) + "?tag=" + strings.Repeat("&tag=a", 101), "", index, http.StatusRequestURITooLong},
		{"latest", "", "not JSON", http.StatusBadRequest},
		{"latest", "", index, http.StatusCreated},
	} {
		for _, expect := range []bool{false, true} {
			length := fmt.Sprintf("Content-Length: %d\r\n", len(c.body))
			if !expect {
				w.send(t, putIndex+c.header+length+"\r\n%s", c.reference, c.body)
			} else {
				w.send(t, putIndex+c.header+length+"Expect: 100-continue\r\n\r\n", c.reference)
			}
			resp := w.readResponse(t, http.MethodPut)
			if resp.StatusCode == http.StatusContinue {
				w.send(t, "%s", c.body)
				resp = w.readResponse(t, http.MethodPut)
			} else if expect {
				w.Close() // the client sends no body
				w = dial(t, addr)
			}
			if resp.StatusCode != c.want || !expect && resp.Close {
				t.Errorf("PUT %s %q of %d bytes = %s, Close %v, want %d and an open connection: %s", c.reference, c.header, len(c.body), resp.Status, resp.Close, c.want, resp.body)
			}
		}
	}
}

// Clients that disconnect in the middle of a manifest, or before they have read the
// response, leave no memory in use: nothing may wait for memory here.
func TestManifestDisconnects(t *testing.T) {
	h := newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{
		Manifests: blobstore.ManifestConfig{MaxSize: 64 << 10, Memory: 1 << 20},
		Upload:    blobstore.UploadConfig{MaxWaiting: -1},
	}, Config{})
	inBubble(t, h, Unread{}, func(t *testing.T, l *ocihttptest.Pipes, _ context.CancelFunc) {
		whole := indexOf(20_000) // more than the share of small bodies
		for i := range 60 {
			w := dialPipe(l)
			switch i % 4 {
			case 0:
				w.send(t, putIndex+"Content-Length: 20000\r\n\r\n%s", "latest", whole[:100])
			case 1:
				w.send(t, putIndex+"Transfer-Encoding: chunked\r\n\r\n64\r\n%s", "latest", whole[:100])
			case 2:
				w.send(t, putIndex+"Content-Length: 20000\r\n\r\n%s", "latest", whole)
			case 3:
				w.send(t, putIndex+"Content-Length: 20000\r\n\r\n%s", digestOf("other"), whole)
			}
			w.Close()
			synctest.Wait()
		}
		var all []*wire
		for range 4 { // as many as have room besides what is set aside
			w := dialPipe(l)
			w.send(t, putIndex+"Content-Length: 20000\r\n\r\n%s", "latest", whole[:100])
			all = append(all, w)
		}
		synctest.Wait()
		for _, w := range all {
			w.send(t, "%s", whole[100:])
			if resp := w.readResponse(t, http.MethodPut); resp.StatusCode != http.StatusCreated {
				t.Errorf("PUT after clients have disconnected = %s %s, want 201", resp.Status, resp.body)
			}
			w.Close()
		}
	})
}
