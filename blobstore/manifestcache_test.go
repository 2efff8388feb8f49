package blobstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// wantServed checks the status of ServeManifest, and the calls that it makes.
func (p *pushes) wantServed(what, method, ref string, status int, requests ...string) {
	p.t.Helper()
	p.calls = nil
	w, err := serveManifest(p.t, p.Manifests(), method, ref)
	got := w.Code
	if errors.Is(err, ErrManifestUnknown) {
		got = http.StatusNotFound
	} else if err != nil {
		p.t.Errorf("%s: %v", what, err)
	}
	if got != status {
		p.t.Errorf("%s: status %d, want %d", what, got, status)
	}
	p.wantRequests(what, requests...)
}

const tagRead, manifestRead = "Open tag", "Open manifest"

// TestManifestReadCounts counts the requests of reads, cold and warm. The bytes of a long
// manifest are not held.
func TestManifestReadCounts(t *testing.T) {
	const get, head = http.MethodGet, http.MethodHead
	for name, image := range map[string]func(...digest.Digest) ManifestPut{"short": imageOf, "long": longImage} {
		for _, method := range []string{get, head} {
			p := newPushes(t, Config{})
			put := image(p.blob("config")).tagged("v1")
			p.mustPut(put)
			var warm []string
			if name == "long" && method == get {
				warm = []string{manifestRead}
			}
			p.wantServed(name+", cold", method, put.Digest.String(), 200, manifestRead)
			p.wantServed(name+", warm", method, put.Digest.String(), 200, warm...)
			p.wantServed(name+" by tag, warm", method, "v1", 200, append([]string{tagRead}, warm...)...)
			p.s.cache.forgetManifest(manifestID{pushRepo, put.Digest})
			p.wantServed(name+" by tag, cold", method, "v1", 200, tagRead, manifestRead)
			p.wantServed("unknown", method, digest.FromString("x").String(), 404, manifestRead)
			p.wantServed("unknown tag", method, "x", 404, tagRead)
		}
	}
	// A push fills the cache, and a deletion at this process empties it.
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config")).tagged("v1")
	must(t, p.put(put))
	p.wantServed("pushed", get, put.Digest.String(), 200)
	p.wantServed("pushed, by tag", get, "v1", 200, tagRead)
	must(t, p.Manifests().Delete(t.Context(), put.Digest))
	p.wantServed("deleted", get, put.Digest.String(), 404, manifestRead)

	none := newPushes(t, Config{Cache: CacheConfig{Entries: -1}})
	none.blob("config")
	none.mustPut(put)
	for range 2 {
		none.wantServed("without a cache", get, put.Digest.String(), 200, manifestRead)
	}
}

// TestManifestTTL reads manifests until their entries expire. The age of an entry starts
// before its request.
func TestManifestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPushes(t, Config{Cache: CacheConfig{TTL: time.Minute}})
		put := imageOf(p.blob("config")).tagged("v1")
		slow := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if kindOfObject(c.Key) == "manifest" {
				time.Sleep(20 * time.Second)
			}
			return do(ctx)
		}
		p.intercept = slow
		must(t, p.put(put))
		p.intercept = nil
		d := put.Digest.String()
		time.Sleep(40 * time.Second)
		p.wantServed("60 s after the start of the push", http.MethodGet, d, 200)
		time.Sleep(time.Nanosecond)
		p.intercept = slow
		p.wantServed("later", http.MethodGet, d, 200, manifestRead)
		p.intercept = nil
		p.mustDelete(put.Digest)
		time.Sleep(40 * time.Second)
		p.wantServed("deleted elsewhere, 60 s after the start of the read", http.MethodGet, d, 200)
		p.wantServed("deleted elsewhere, by tag", http.MethodGet, "v1", 404, tagRead)
		time.Sleep(time.Nanosecond)
		p.wantServed("deleted elsewhere, later", http.MethodGet, d, 404, manifestRead)
	})
}

// TestManifestDeletedDuringRead deletes a manifest while a read at the same process has
// it already. The read does not put it back into the cache.
func TestManifestDeletedDuringRead(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config"))
	p.mustPut(put)
	s := openStore(t, drivertest.Wrap(p.bucket, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if p.intercept != nil && isCall(c, manifestRead) {
			return p.intercept(ctx, c, func(context.Context) error { return err })
		}
		return err
	}), Config{})
	m := repository(t, s, pushRepo).Manifests()
	p.intercept = func(ctx context.Context, _ drivertest.Call, done func(context.Context) error) error {
		p.intercept = nil
		must(t, m.Delete(ctx, put.Digest))
		return done(ctx)
	}
	if _, err := m.Get(t.Context(), put.Digest); err != nil {
		t.Errorf("Get that started before = %v, want success", err)
	}
	if _, err := m.Get(t.Context(), put.Digest); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("Get after the deletion = %v, want ErrManifestUnknown", err)
	}

	// A deletion whose client disconnects takes effect.
	p.mustPut(put)
	if _, err := m.Get(t.Context(), put.Digest); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.cache.manifest(manifestID{pushRepo, put.Digest}); !ok {
		t.Fatal("the manifest is not cached")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_ = m.Delete(gone, put.Digest)
	if _, ok := s.cache.manifest(manifestID{pushRepo, put.Digest}); ok {
		t.Error("the manifest is cached after a Delete")
	}
}

// TestAttack39CachedManifestOfEarlierLife caches a manifest, which another process then
// deletes and pushes again by tag. The tag resolves at every process from the moment
// when its push is acknowledged, although the id in the cache is an earlier one.
func TestAttack39CachedManifestOfEarlierLife(t *testing.T) {
	for name, image := range map[string]func(...digest.Digest) ManifestPut{"short": imageOf, "long": longImage} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			p := newPushes(t, Config{})
			put := image(p.blob("config")).tagged("v1")
			must(t, p.put(put))
			p.wantServed(name+", first life", http.MethodHead, "v1", 200, tagRead)
			p.mustDelete(put.Digest)
			p.mustPut(put.tagged("v1", "v2"))
			for _, tag := range []string{"v1", "v2"} {
				w, err := serveManifest(t, p.Manifests(), method, tag)
				if err != nil || w.Header().Get("Docker-Content-Digest") != put.Digest.String() {
					t.Errorf("%s of a %s manifest by %s in its second life = %d, %v, want 200", method, name, tag, w.Code, err)
				}
			}
			// The second life is cached now.
			p.wantServed(name+", second life", http.MethodHead, "v1", 200, tagRead)
			if desc, err := p.Tags().Get(t.Context(), "v2"); err != nil || desc.Digest != put.Digest {
				t.Errorf("Tags.Get = %v, %v, want %s", desc, err, put.Digest)
			}

			// A tag of the first life does not resolve, although its manifest can be read.
			tag := p.storedTag("v1")
			tag.Value.ID = "first life"
			_, err := envelope.Replace(t.Context(), p.bucket, tag.Object.Key, tag.Object.Tag, tag.Value, drivers.Body{})
			must(t, err)
			p.wantServed(name+", tag of the first life", method, "v1", 404, tagRead, manifestRead, tagRead)
		}
	}
}

// TestTagMovesDuringRead moves a tag between the read of the tag and that of its
// manifest, which is deleted. The read continues with what the tag names now.
func TestTagMovesDuringRead(t *testing.T) {
	p := newPushes(t, Config{})
	a, b := imageOf(p.blob("a")).tagged("v1"), imageOf(p.blob("b")).tagged("v1")
	p.mustPut(a)
	p.intercept = before(manifestRead, 1, func() {
		p.mustPut(b)
		p.mustDelete(a.Digest)
	})
	w, err := serveManifest(t, p.Manifests(), http.MethodGet, "v1")
	if got := w.Header().Get("Docker-Content-Digest"); err != nil || got != b.Digest.String() {
		t.Errorf("GET of a tag that moves = %q, %v, want %s", got, err, b.Digest)
	}
	p.wantRequests("GET of a tag that moves", tagRead, manifestRead, tagRead, manifestRead)

	p.intercept = before(manifestRead, 1, func() { must(t, p.another().Tags().Untag(t.Context(), "v1")); p.mustDelete(b.Digest) })
	p.s.cache.forgetManifest(manifestID{pushRepo, b.Digest})
	p.wantServed("the tag is deleted", http.MethodGet, "v1", 404, tagRead, manifestRead, tagRead)
	p.intercept = nil

	// A tag that another process moves is never cached.
	p.mustPut(a)
	for _, put := range []ManifestPut{a, b, a} {
		p.mustPut(put)
		w, err := serveManifest(t, p.Manifests(), http.MethodHead, "v1")
		if got := w.Header().Get("Docker-Content-Digest"); err != nil || got != put.Digest.String() {
			t.Errorf("HEAD of a tag that was moved = %q, %v, want %s", got, err, put.Digest)
		}
	}
}

// TestManifestCacheMemory fills the cache with more than it may hold: with manifests of
// any size, and with long ones that have long descriptions.
func TestManifestCacheMemory(t *testing.T) {
	const limit, puts = 4 << 20, 5000
	larger := sized(10, 0) // its bytes are the start of a larger slice
	larger.Raw = make([]byte, 100_000)[:10]
	for name, test := range map[string]struct {
		manifest catalog.StoredManifest
		entries  int // the least
	}{
		"short":                           {sized(1000, 0), 1800},
		"64 KiB":                          {sized(envelope.MaxRaw, 0), 60},
		"long, with a long artifact type": {sized(0, 100_000), 40},
		"the start of a larger slice":     {larger, 3800},
	} {
		c, err := newCache(Config{Manifests: ManifestConfig{CacheMemory: limit}}.withDefaults())
		must(t, err)
		before := heap()
		for i := range puts {
			m := test.manifest
			m.Raw = slices.Clone(m.Raw)
			if m.Value.ArtifactType != "" {
				m.Value.ArtifactType = strings.Clone(m.Value.ArtifactType)
			}
			if name == "the start of a larger slice" {
				m.Raw = larger.Raw
			}
			c.putManifest(c.start(), idOf(i), m)
			if used := c.manifests.used; used > limit {
				t.Fatalf("%s: the cache has %d bytes, want at most %d", name, used, limit)
			}
		}
		if grown := heap() - before; grown > limit*5/4 {
			t.Errorf("%s: the heap has grown by %d bytes, want about %d", name, grown, limit)
		}
		if n := c.manifests.entries.Len(); n < test.entries {
			t.Errorf("%s: the cache has %d entries, want at least %d", name, n, test.entries)
		}
		if _, ok := c.manifest(idOf(puts - 1)); !ok {
			t.Errorf("%s: the newest manifest is not cached", name)
		}
		for i := range puts {
			c.forgetManifest(idOf(i))
		}
		if used := c.manifests.used; used != 0 {
			t.Errorf("%s: the empty cache has %d bytes", name, used)
		}
	}
	c, err := newCache(Config{Manifests: ManifestConfig{CacheMemory: 1 << 10}}.withDefaults())
	must(t, err)
	c.putManifest(c.start(), idOf(1), sized(2000, 0))
	if _, ok := c.manifest(idOf(1)); ok || c.manifests.used != 0 {
		t.Errorf("a manifest that is larger than the cache is in it, with %d bytes", c.manifests.used)
	}
	off, err := newCache(Config{Manifests: ManifestConfig{CacheMemory: -1}}.withDefaults())
	must(t, err)
	off.putManifest(off.start(), idOf(1), sized(10, 0))
	if _, ok := off.manifest(idOf(1)); ok {
		t.Error("a cache that is turned off has a manifest")
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func idOf(i int) manifestID { return manifestID{pushRepo, digest.FromString(fmt.Sprint(i))} }

// sized returns a live manifest with raw bytes and an artifact type of these lengths.
func sized(raw, artifactType int) catalog.StoredManifest {
	m := catalog.StoredManifest{Value: catalog.Manifest{State: catalog.Live, ArtifactType: strings.Repeat("x", artifactType)}}
	if raw > 0 {
		m.Raw = make([]byte, raw)
	}
	return m
}
