package ocihttp

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/memory"
)

// A manifest of any size up to the limit is stored, and sent again as it is.
func TestManifestSizes(t *testing.T) {
	for name, h := range habits() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most = 4 << 20
			h := newHandler(t, openMemory(t, &memory.Store{Habits: h}), blobstore.Config{}, Config{})
			addr := serve(t, h)
			for _, size := range []int{100, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, most, most + 1} {
				body := indexOf(size)
				if len(body) != size {
					t.Fatalf("index of %d bytes, want %d", len(body), size)
				}
				c := specClient{t, &url.URL{Scheme: "http", Host: addr}}
				m := pushed{mediaType: typeIndex, body: []byte(body)}
				if size > most {
					c.want(http.StatusRequestEntityTooLarge, "PUT", "/v2/a/manifests/large", m.body, "Content-Type", typeIndex)
					c.want(http.StatusRequestEntityTooLarge, "PUT", "/v2/a/manifests/large", m.body, "Content-Type", typeIndex, "Transfer-Encoding", "chunked")
					continue
				}
				c.pulled(c.pushManifest("a", "large", m, digest.FromBytes(m.body)), m, digest.FromBytes(m.body))
				c.pulled("/v2/a/manifests/large", m, digest.FromBytes(m.body))
			}
		})
	}
}

// Manifests are pushed, refused and pulled over HTTP/2, on one connection.
func TestManifestsOverHTTP2(t *testing.T) {
	client, base := http2Server(t, RespondFirst(t.Context(), newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{}), Unread{RejectedIdle: 100 * time.Millisecond}))
	do := func(method, target, body string, want int) fullResponse {
		t.Helper()
		resp := doHTTP2(t, client, base, method, target, strings.NewReader(body))
		if resp.StatusCode != want {
			t.Errorf("%s %s = %s %s, want %d", method, target, resp.Status, resp.body, want)
		}
		return resp
	}
	index := indexOf(100_000)
	for range 3 {
		do("PUT", "/v2/a/manifests/latest", index, http.StatusBadRequest) // no media type
		do("PUT", "/v2/a/manifests/latest", indexOf(10<<20), http.StatusRequestEntityTooLarge)
		do("PUT", "/v2/a/manifests/sha256:x", indexOf(1<<20), http.StatusBadRequest)
		index := strings.Replace(index, `"manifests"`, `"mediaType":"`+typeIndex+`","manifests"`, 1)
		location := do("PUT", "/v2/a/manifests/latest", index, http.StatusCreated).Header.Get("Location")
		if resp := do("GET", location, "", http.StatusOK); resp.body != index || resp.ContentLength != int64(len(index)) {
			t.Errorf("GET = %d bytes, Content-Length %d, want %d", len(resp.body), resp.ContentLength, len(index))
		}
		if resp := do("HEAD", "/v2/a/manifests/latest", "", http.StatusOK); resp.body != "" || resp.ContentLength != int64(len(index)) {
			t.Errorf("HEAD = %q, Content-Length %d, want %d", resp.body, resp.ContentLength, len(index))
		}
		do("HEAD", "/v2/a/manifests/latest", "a body that HEAD must not have", http.StatusOK)
		do("GET", "/v2/a/tags/list", "", http.StatusOK)
	}
}
