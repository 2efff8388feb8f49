package ocihttp

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// While the store is full, clients get 507, and blobs can be read and deleted.
// Afterwards an upload is resumed.
func TestFullStore(t *testing.T) {
	for name, h := range habits() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var full atomic.Bool
			bucket := drivertest.Wrap(openMemory(t, &memory.Store{Habits: h}), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				switch {
				case !full.Load(), !c.Writes(), strings.HasPrefix(c.Method, "Delete"), c.Method == "Abort":
					return do(ctx)
				}
				return drivers.ErrFull
			})
			addr := serve(t, newHandler(t, bucket, blobstore.Config{Upload: smallMemory}, Config{}))
			w := dial(t, addr)
			w.finish(t, w.start(t), "a blob", digest.FromString("a blob"))
			content := strings.Repeat("0123456789", 30_000)
			d := digest.FromString(content)
			send := func(method, target, body string) fullResponse {
				w.send(t, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
				return w.readResponse(t, method)
			}
			location := send("PATCH", w.start(t), content[:10]).Header.Get("Location")

			full.Store(true)
			for _, c := range []struct{ method, target, body string }{
				{"PATCH", location, content[10:]},
				{"PATCH", location, content[10:20]},
				{"PUT", location + "&digest=" + d.String(), content[10:]},
				{"POST", "/v2/a/blobs/uploads/?digest=" + d.String(), content},
				{"POST", "/v2/a/blobs/uploads/?digest=" + sha256Hello, "hello"},
			} {
				resp := send(c.method, c.target, c.body)
				if resp.StatusCode != http.StatusInsufficientStorage || !strings.Contains(resp.body, `"message":"the store is full`) || resp.Header.Get("Retry-After") != "" {
					t.Errorf("%s of %d bytes = %s, %s, Retry-After %q, want 507 with a message and without Retry-After", c.method, len(c.body), resp.Status, resp.body, resp.Header.Get("Retry-After"))
				}
			}
			status := w.status(t, location)
			if status.StatusCode != http.StatusNoContent || status.Header.Get("Range") != "0-9" {
				t.Errorf("status = %s, Range %q, want 204, 0-9", status.Status, status.Header.Get("Range"))
			}
			blob := "/v2/a/blobs/" + digest.FromString("a blob").String()
			if resp := send("GET", blob, ""); resp.StatusCode != http.StatusOK || resp.body != "a blob" {
				t.Errorf("GET = %s, %q, want 200, a blob", resp.Status, resp.body)
			}
			if resp := send("DELETE", blob, ""); resp.StatusCode != http.StatusAccepted {
				t.Errorf("DELETE = %s, want 202", resp.Status)
			}

			full.Store(false)
			location = send("PATCH", status.Header.Get("Location"), content[10:1000]).Header.Get("Location")
			w.finish(t, location, content[1000:], d)
			if resp := send("GET", "/v2/a/blobs/"+d.String(), ""); resp.StatusCode != http.StatusOK || resp.body != content {
				t.Errorf("GET = %s, %d bytes, want 200, %d", resp.Status, len(resp.body), len(content))
			}
		})
	}
}
