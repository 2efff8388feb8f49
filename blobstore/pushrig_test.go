package blobstore

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// pushes is a repository of one process, for tests of what a push writes.
type pushes struct {
	*Repository
	t      *testing.T
	bucket drivers.Bucket // without the intercept

	// intercept stands before the bucket. Nil makes all calls.
	intercept drivertest.Intercept
	calls     []drivertest.Call // of the process, since the last reset
}

const pushRepo = "library/app"

func newPushes(t *testing.T, cfg Config) *pushes {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: memory.S3()}})
	must(t, err)
	return newPushesOn(t, b, cfg)
}

func newPushesOn(t *testing.T, b drivers.Bucket, cfg Config) *pushes {
	t.Helper()
	p := &pushes{t: t, bucket: b}
	record := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		p.calls = append(p.calls, c)
		if p.intercept == nil {
			return do(ctx)
		}
		return p.intercept(ctx, c, do)
	}
	p.Repository = repository(t, openStore(t, drivertest.Wrap(b, serially(record)), cfg), pushRepo)
	p.calls = nil // those that open the store
	return p
}

// serially returns f, called for one call at a time.
func serially(f drivertest.Intercept) drivertest.Intercept {
	turn := make(chan struct{}, 1)
	return func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		turn <- struct{}{}
		defer func() { <-turn }()
		return f(ctx, c, do)
	}
}

// another returns the repository at another process, which is not recorded.
func (p *pushes) another() *Repository {
	p.t.Helper()
	return repository(p.t, openStore(p.t, p.bucket, p.s.cfg), pushRepo)
}

// blob pushes a blob at another process, so that this one does not know it.
func (p *pushes) blob(text string) digest.Digest {
	p.t.Helper()
	desc, err := p.another().Put(p.t.Context(), "", []byte(text))
	must(p.t, err)
	return desc.Digest
}

// ref is a descriptor in a manifest.
type ref struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int           `json:"size"`
}

func refTo(mediaType string, d digest.Digest) ref { return ref{mediaType, d, 1} }

const layerType = "application/vnd.oci.image.layer.v1.tar+gzip"

// imageOf returns the manifest of an image. The first of the blobs is the config.
func imageOf(blobs ...digest.Digest) ManifestPut {
	layers := []ref{}
	for _, d := range blobs[1:] {
		layers = append(layers, refTo(layerType, d))
	}
	return putOf(map[string]any{
		"schemaVersion": 2,
		"mediaType":     manifest.MediaTypeImage,
		"config":        refTo("application/vnd.oci.image.config.v1+json", blobs[0]),
		"layers":        layers,
	})
}

// indexOf returns an index of these manifests.
func indexOf(children ...digest.Digest) ManifestPut {
	manifests := []ref{}
	for _, d := range children {
		manifests = append(manifests, refTo(manifest.MediaTypeImage, d))
	}
	return putOf(map[string]any{"schemaVersion": 2, "mediaType": manifest.MediaTypeIndex, "manifests": manifests})
}

// putOf returns a document as a manifest to push.
func putOf(doc map[string]any) ManifestPut {
	content, err := json.Marshal(doc)
	if err != nil {
		panic(err) // a mistake in the test
	}
	return ManifestPut{Content: content, Digest: digest.FromBytes(content)}
}

// with returns the manifest with another field.
func (put ManifestPut) with(field string, value any) ManifestPut {
	doc := map[string]any{}
	if err := json.Unmarshal(put.Content, &doc); err != nil {
		panic(err) // a mistake in the test
	}
	doc[field] = value
	return putOf(doc)
}

// tagged returns the manifest with tags.
func (put ManifestPut) tagged(tags ...string) ManifestPut {
	put.Tags = tags
	return put
}

// onlyIf returns the manifest with a condition.
func (put ManifestPut) onlyIf(cond TagCondition) ManifestPut {
	put.Condition = cond
	return put
}

// put pushes a manifest, and returns the error.
func (p *pushes) put(put ManifestPut) error {
	_, err := p.Manifests().Put(p.t.Context(), put)
	return err
}

// mustPut pushes a manifest at another process.
func (p *pushes) mustPut(put ManifestPut) {
	p.t.Helper()
	_, err := p.another().Manifests().Put(p.t.Context(), put)
	must(p.t, err)
}

// mustDelete deletes a manifest at another process.
func (p *pushes) mustDelete(d digest.Digest) {
	p.t.Helper()
	must(p.t, p.another().Manifests().Delete(p.t.Context(), d))
}

// stored returns the manifest in the bucket.
func (p *pushes) stored(d digest.Digest) catalog.StoredManifest {
	p.t.Helper()
	m, err := catalog.New(p.bucket).ReadManifest(p.t.Context(), pushRepo, d)
	must(p.t, err)
	return m
}

// storedTag returns the tag in the bucket. It is zero if there is none.
func (p *pushes) storedTag(tag string) catalog.StoredTag {
	p.t.Helper()
	stored, err := catalog.New(p.bucket).ReadTag(p.t.Context(), pushRepo, tag)
	if !errors.Is(err, drivers.ErrNotFound) {
		must(p.t, err)
	}
	return stored
}

// wantResolves checks what a tag names. An empty digest stands for a tag that does not
// resolve.
func (p *pushes) wantResolves(tag string, want digest.Digest) {
	p.t.Helper()
	got, stored := digest.Digest(""), p.storedTag(tag)
	if stored.Object.Key != "" {
		m, err := catalog.New(p.bucket).ReadManifest(p.t.Context(), pushRepo, stored.Value.Digest)
		if err == nil && m.Value.Readable() && stored.Value.Names(m.Value) {
			got = stored.Value.Digest
		}
	}
	if got != want {
		p.t.Errorf("the tag %s resolves to %q, want %q", tag, got, want)
	}
}

// exists reports whether the manifest is in the bucket, in any state.
func (p *pushes) exists(d digest.Digest) bool {
	p.t.Helper()
	_, err := p.bucket.Stat(p.t.Context(), catalog.ManifestKey(pushRepo, d))
	return err == nil
}

// requests returns the recorded calls: the method, and what the object is.
func (p *pushes) requests() []string {
	var all []string
	for _, c := range p.calls {
		all = append(all, c.Method+" "+kindOfObject(c.Key))
	}
	return all
}

// wantRequests checks the recorded calls, and forgets them.
func (p *pushes) wantRequests(what string, want ...string) {
	p.t.Helper()
	if got := p.requests(); !slices.Equal(got, want) {
		p.t.Errorf("%s makes %q, want %q", what, got, want)
	}
	p.calls = nil
}

// kindOfObject returns what an object with this key is.
func kindOfObject(key string) string {
	for _, k := range []struct{ part, kind string }{
		{"/manifests/", "manifest"}, {"/tags/", "tag"}, {"/referrers/", "entry"}, {"/links/", "link"},
		{"/record", "record"}, {"aliases/", "alias"}, {"catalog/", "marker"},
	} {
		if strings.Contains(key, k.part) {
			return k.kind
		}
	}
	return key
}

// isCall reports whether a call is of this kind, such as "Create tag".
func isCall(c drivertest.Call, kind string) bool { return c.Method+" "+kindOfObject(c.Key) == kind }

// before returns an intercept that calls do before the nth call of a kind.
func before(kind string, nth int, do func()) drivertest.Intercept {
	return func(ctx context.Context, c drivertest.Call, call func(context.Context) error) error {
		if isCall(c, kind) {
			if nth--; nth == 0 {
				do()
			}
		}
		return call(ctx)
	}
}

// changeManifest changes the description of a manifest in the bucket.
func (p *pushes) changeManifest(d digest.Digest, change func(*catalog.Manifest)) {
	p.t.Helper()
	condemn(p.t, p.bucket, catalog.ManifestKey(pushRepo, d), change)
}

func markCondemned(m *catalog.Manifest) { m.State = catalog.Condemned }
