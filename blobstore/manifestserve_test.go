package blobstore

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestServeManifest reads manifests by digest and by tag, and checks every header.
func TestServeManifest(t *testing.T) {
	p := newPushes(t, Config{})
	config := p.blob("config")
	image, long := imageOf(config).tagged("image"), longImage(config).tagged("long")
	docker := putOf(map[string]any{"schemaVersion": 2, "config": refTo("c", config), "layers": []ref{}}).tagged("docker")
	docker.MediaType = manifest.MediaTypeDockerImage + "; charset=utf-8"
	bySHA512 := imageOf(config).with("annotations", map[string]string{"a": "b"}).tagged("sha512")
	bySHA512.Digest = digest.SHA512.FromBytes(bySHA512.Content)
	for _, put := range []ManifestPut{image, long, docker, bySHA512} {
		p.mustPut(put)
		mediaType := manifest.MediaTypeImage
		if put.MediaType != "" {
			mediaType = manifest.MediaTypeDockerImage
		}
		for _, ref := range []string{put.Tags[0], put.Digest.String()} {
			cacheControl := "no-cache"
			if ref != put.Tags[0] {
				cacheControl = "private, max-age=31536000, immutable"
			}
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodGet, http.MethodHead} { // cold and warm
				// A client that accepts other types gets what is stored.
				w, err := serveManifest(t, p.Manifests(), method, ref, "Accept", "text/plain")
				if err != nil || w.Code != http.StatusOK {
					t.Fatalf("%s %s = %d, %v, want 200", method, ref, w.Code, err)
				}
				for name, want := range map[string]string{
					"Content-Type":           mediaType,
					"Content-Length":         strconv.Itoa(len(put.Content)),
					"Docker-Content-Digest":  put.Digest.String(),
					"Etag":                   `"` + put.Digest.String() + `"`,
					"Cache-Control":          cacheControl,
					"X-Content-Type-Options": "nosniff",
					"Vary":                   "",
				} {
					if got := w.Header().Get(name); got != want {
						t.Errorf("%s %s has %s: %s, want %q", method, ref, name, got, want)
					}
				}
				body := put.Content
				if method == http.MethodHead {
					body = nil
				}
				if !bytes.Equal(w.Body.Bytes(), body) {
					t.Errorf("%s %s has %d bytes, want %d", method, ref, w.Body.Len(), len(body))
				}
			}
		}
	}
	// The sha256 of a manifest that was pushed by its sha512 is not a name of it.
	for _, ref := range []string{digest.FromBytes(bySHA512.Content).String(), "unknown", digest.FromString("x").String()} {
		if w, err := serveManifest(t, p.Manifests(), http.MethodGet, ref); !errors.Is(err, ErrManifestUnknown) {
			t.Errorf("GET %s = %d, %v, want ErrManifestUnknown", ref, w.Code, err)
		}
	}
}

// TestManifestConditions sends the conditions of a GET and a HEAD.
func TestManifestConditions(t *testing.T) {
	p := newPushes(t, Config{})
	put, other := imageOf(p.blob("config")).tagged("v1"), digest.FromString("other").String()
	p.mustPut(put)
	d := put.Digest.String()
	for _, test := range []struct {
		name, value string
		status      int
	}{
		{"If-None-Match", `"` + d + `"`, http.StatusNotModified},
		{"If-None-Match", `W/"` + d + `"`, http.StatusNotModified},
		{"If-None-Match", `"` + other + `", "` + d + `"`, http.StatusNotModified},
		{"If-None-Match", `*`, http.StatusNotModified},
		{"If-None-Match", d, http.StatusNotModified},
		{"If-None-Match", `"` + other + `"`, http.StatusOK},
		{"If-None-Match", other, http.StatusOK},
		{"If-Match", `"` + d + `"`, http.StatusOK},
		{"If-Match", `"` + other + `"`, http.StatusPreconditionFailed},
		{"Range", "bytes=0-1", http.StatusOK},
	} {
		for _, ref := range []string{"v1", d} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				w, err := serveManifest(t, p.Manifests(), method, ref, test.name, test.value)
				if err != nil || w.Code != test.status {
					t.Errorf("%s %s with %s: %s = %d, %v, want %d", method, ref, test.name, test.value, w.Code, err, test.status)
				}
				h := w.Header()
				if test.status == http.StatusNotModified && (h.Get("Etag") == "" || h.Get("Docker-Content-Digest") != d || h.Get("Content-Length") != "" || w.Body.Len() > 0) {
					t.Errorf("304 with the headers %v, want the digest and no length", h)
				}
			}
		}
	}
}

// TestServeManifestFails checks that an error of the store is returned, and that nothing
// is written then.
func TestServeManifestFails(t *testing.T) {
	p := newPushes(t, Config{Cache: CacheConfig{Entries: -1}})
	put := imageOf(p.blob("config")).tagged("v1")
	p.mustPut(put)
	for _, kind := range []string{"Open tag", "Open manifest"} {
		for _, err := range []error{drivers.ErrBusy, drivers.ErrRefused, drivertest.ErrInjected} {
			p.intercept = (&drivertest.Faulty{Nth: 1, Err: err, Match: func(c drivertest.Call) bool { return isCall(c, kind) }}).Intercept
			want := ErrUnavailable
			if errors.Is(err, drivertest.ErrInjected) {
				want = err
			}
			if w, err := serveManifest(t, p.Manifests(), http.MethodHead, "v1"); !errors.Is(err, want) || errors.Is(err, ErrManifestUnknown) {
				t.Errorf("HEAD with %s failing = %d, %v, want %v", kind, w.Code, err, want)
			}
		}
	}
	for _, ref := range []string{"sha256:x", "md5:d41d8cd98f00b204e9800998ecf8427e", ":"} {
		_, err := serveManifest(t, p.Manifests(), http.MethodGet, ref)
		if _, ok := errors.AsType[ErrBlobInvalidDigest](err); !ok {
			t.Errorf("GET %s = %v, want an ErrBlobInvalidDigest", ref, err)
		}
	}
	if _, err := serveManifest(t, p.Manifests(), http.MethodGet, "../v1"); !errors.Is(err, ErrTagInvalid) {
		t.Errorf("GET of a malformed tag = %v, want ErrTagInvalid", err)
	}
}
