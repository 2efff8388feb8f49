package blobstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// TestReferences checks which references a push accepts. It refuses missing ones with
// their digests, and stores nothing then.
func TestReferences(t *testing.T) {
	p := newPushes(t, Config{})
	config, layer := p.blob("config"), p.blob("layer")
	damagedBlob, deletedBlob := p.blob("damaged"), p.blob("deleted")
	condemn(t, p.bucket, catalog.LinkKey(damagedBlob, pushRepo), func(r *catalog.Record) { r.State = catalog.Damaged })
	must(t, p.another().Delete(t.Context(), deletedBlob))
	missing := digest.FromString("missing")
	elsewhere, err := repository(t, p.s, "other/repo").Put(t.Context(), "", []byte("elsewhere"))
	must(t, err)
	child, condemnedChild, deletedChild := imageOf(config), imageOf(layer), imageOf(layer, config)
	for _, put := range []ManifestPut{child, condemnedChild, deletedChild} {
		p.mustPut(put)
	}
	p.changeManifest(condemnedChild.Digest, markCondemned)
	p.mustDelete(deletedChild.Digest)
	foreign := func(mediaType string) ManifestPut {
		return imageOf(config).with("layers", []ref{refTo(mediaType, missing)})
	}
	index := func(mediaType string, d digest.Digest) ManifestPut {
		return indexOf().with("manifests", []ref{refTo(mediaType, d)})
	}
	for _, tt := range []struct {
		name string
		put  ManifestPut
		want []digest.Digest // that are missing
	}{
		{"config and layer", imageOf(config, layer), nil},
		{"config only", imageOf(config), nil},
		{"missing config", imageOf(missing, layer), []digest.Digest{missing}},
		{"missing layer", imageOf(config, missing), []digest.Digest{missing}},
		{"missing blob", imageOf(config).with("blobs", []ref{refTo(layerType, missing)}), []digest.Digest{missing}},
		{"damaged layer", imageOf(config, damagedBlob), []digest.Digest{damagedBlob}},
		{"deleted layer", imageOf(config, deletedBlob), []digest.Digest{deletedBlob}},
		{"layer of another repository", imageOf(config, elsewhere.Digest), []digest.Digest{elsewhere.Digest}},
		{"several, in their order", imageOf(missing, layer, damagedBlob, deletedBlob), []digest.Digest{missing, damagedBlob, deletedBlob}},
		{"non-distributable layer", foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), nil},
		{"foreign layer", foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), nil},
		{"missing subject", imageOf(config).with("subject", refTo(manifest.MediaTypeImage, missing)), nil},
		{"child", indexOf(child.Digest), nil},
		{"condemned child", indexOf(condemnedChild.Digest), nil},
		{"missing child", indexOf(missing), []digest.Digest{missing}},
		{"deleted child", indexOf(deletedChild.Digest), []digest.Digest{deletedChild.Digest}},
		{"blob as a child", indexOf(config), []digest.Digest{config}},
		{"blob in an index", index("text/plain", config), nil},
		{"missing blob in an index", index("text/plain", missing), []digest.Digest{missing}},
		{"manifest as a blob", index("text/plain", child.Digest), []digest.Digest{child.Digest}},
		{"empty index", indexOf(), nil},
	} {
		err := p.put(tt.put.tagged("new"))
		var got []digest.Digest
		if unknown, ok := errors.AsType[ErrManifestBlobUnknown](err); ok {
			got = unknown.Digests
		}
		if !slices.Equal(got, tt.want) || tt.want == nil && err != nil {
			t.Errorf("Put, %s = %v, want %q to be missing", tt.name, err, tt.want)
		}
		if tt.want == nil {
			continue
		}
		if p.exists(tt.put.Digest) || p.storedTag("new").Value.Digest == tt.put.Digest {
			t.Errorf("Put, %s: the manifest or its tag is stored", tt.name)
		}
	}
	if s := p.stored(condemnedChild.Digest).Value.State; s != catalog.Live {
		t.Errorf("the condemned child is %s, want it live", s)
	}
}

// TestSparseIndexes checks that indexes without their children can be allowed. Blobs
// must still be there, and children that are there are kept.
func TestSparseIndexes(t *testing.T) {
	p := newPushes(t, Config{Manifests: ManifestConfig{SparseIndexes: true}})
	child, missing := imageOf(p.blob("config")), digest.FromString("missing")
	p.mustPut(child)
	p.changeManifest(child.Digest, markCondemned)
	must(t, p.put(indexOf(missing, child.Digest)))
	if s := p.stored(child.Digest).Value.State; s != catalog.Live {
		t.Errorf("the child is %s, want it live", s)
	}
	for _, put := range []ManifestPut{imageOf(missing), indexOf().with("manifests", []ref{refTo("text/plain", missing)})} {
		if err := p.put(put); !isA[ErrManifestBlobUnknown](err) {
			t.Errorf("Put without a blob = %v, want an ErrManifestBlobUnknown", err)
		}
	}
}

// TestManyReferences checks that the requests for references are bounded at a time, and
// so is the list of what is missing.
func TestManyReferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPushes(t, Config{})
		var running, most int
		var mu sync.Mutex
		slow := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return do(ctx)
		}
		r := repository(t, openStore(t, drivertest.Wrap(p.bucket, slow), Config{}), pushRepo)
		var digests []digest.Digest
		for i := range 150 {
			digests = append(digests, digest.FromString(fmt.Sprint(i)))
		}
		_, err := r.Manifests().Put(t.Context(), imageOf(digests...))
		unknown, _ := errors.AsType[ErrManifestBlobUnknown](err)
		if !slices.Equal(unknown.Digests, digests[:100]) || most != 16 {
			t.Errorf("Put = %v, with %d requests at a time, want the first 100 digests, and 16 requests", err, most)
		}
	})
}

// TestKnownLinksInPush checks which links a push counts as here without a request.
func TestKnownLinksInPush(t *testing.T) {
	p := newPushes(t, Config{})
	n := 0
	// reads reports whether a push of a new manifest reads the link.
	reads := func(blob digest.Digest) bool {
		t.Helper()
		n++
		p.calls = nil
		must(t, p.put(imageOf(blob).with("artifactType", fmt.Sprintf("a/%d", n))))
		return slices.Contains(p.requests(), "Open link")
	}
	want := func(what string, blob digest.Digest, want bool) {
		t.Helper()
		if got := reads(blob); got != want {
			t.Errorf("%s: the push reads the link: %v, want %v", what, got, want)
		}
	}
	read := p.blob("read by a push")
	want("not known", read, true)
	want("read by a push", read, false)
	pushed, err := p.Put(t.Context(), "", []byte("pushed"))
	must(t, err)
	want("pushed by this process", pushed.Digest, false)

	// Not one that was read as condemned, unless this process took the mark off.
	marked := p.blob("condemned")
	condemnLink(t, p.bucket, pushRepo, marked)
	_, err = p.Stat(t.Context(), marked)
	must(t, err)
	want("read as condemned", marked, true)
	link, err := catalog.New(p.bucket).ReadLink(t.Context(), marked, pushRepo)
	if err != nil || link.Value.Condemned {
		t.Errorf("the link after the push = %+v, %v, want no mark", link.Value, err)
	}
	want("written as good", marked, false)

	// Not one that only a manifest vouched for.
	vouched := imageOf(p.blob("vouched"))
	p.mustPut(vouched)
	must(t, p.put(vouched))
	want("vouched for by a manifest", digest.FromString("vouched"), true)

	// Not one that this process has deleted.
	must(t, p.Delete(t.Context(), pushed.Digest))
	if err := p.put(imageOf(pushed.Digest).with("artifactType", "x/y")); !isA[ErrManifestBlobUnknown](err) {
		t.Errorf("Put after the blob was deleted = %v, want an ErrManifestBlobUnknown", err)
	}
}

// TestReferenceBySHA512 checks that the alias of a reference is always read, and that
// the collector's mark is taken off it, whether or not the link is known.
func TestReferenceBySHA512(t *testing.T) {
	p := newPushes(t, Config{})
	p.blob("config")
	d := digest.SHA512.FromString("config")
	must(t, p.another().SetDescriptor(t.Context(), d, Descriptor{Digest: digest.FromString("config")}))
	for i := range 3 {
		if i > 0 { // the cache has the alias and the link
			_, err := p.Stat(t.Context(), d)
			must(t, err)
		}
		if i == 2 {
			must(t, p.bucket.Delete(t.Context(), catalog.AliasKey(d)))
		} else {
			condemnAlias(t, p.bucket, d)
		}
		p.calls = nil
		err := p.put(imageOf(d).with("artifactType", fmt.Sprintf("a/%d", i)))
		if i == 2 {
			if !isA[ErrManifestBlobUnknown](err) {
				t.Errorf("Put without the alias = %v, want an ErrManifestBlobUnknown", err)
			}
			break
		}
		must(t, err)
		alias, err := catalog.New(p.bucket).ReadAlias(t.Context(), d)
		if err != nil || alias.Value.Condemned {
			t.Errorf("the alias after push %d = %+v, %v, want no mark", i, alias.Value, err)
		}
		if got := p.requests(); slices.Contains(got, "Open link") != (i == 0) {
			t.Errorf("push %d makes %q, want it to read the link only if it is not known", i, got)
		}
	}
}

// TestCondemnedReferences removes what a push refers to after the push has started, as
// the collector does with what it has condemned. If the push has taken the mark off,
// the removal fails. If the collector was first, the push is refused.
func TestCondemnedReferences(t *testing.T) {
	config := digest.FromString("config")
	child := imageOf(config)
	for _, tt := range []struct {
		name string
		key  string // of what the push refers to
		put  ManifestPut
		call string // before which the collector removes it
		nth  int
		kept bool
	}{
		{"link", catalog.LinkKey(config, pushRepo), imageOf(config, config), "Open link", 1, false},
		{"link", catalog.LinkKey(config, pushRepo), imageOf(config, config), "Replace link", 1, false},
		{"link", catalog.LinkKey(config, pushRepo), imageOf(config, config), "Create manifest", 1, true},
		{"child", catalog.ManifestKey(pushRepo, child.Digest), indexOf(child.Digest), "Open manifest", 2, false},
		{"child", catalog.ManifestKey(pushRepo, child.Digest), indexOf(child.Digest), "Replace manifest", 1, false},
		{"child", catalog.ManifestKey(pushRepo, child.Digest), indexOf(child.Digest), "Create manifest", 1, true},
	} {
		p := newPushes(t, Config{})
		p.blob("config")
		p.mustPut(child)
		if tt.name == "link" {
			condemnLink(t, p.bucket, pushRepo, config)
		} else {
			p.changeManifest(child.Digest, markCondemned)
		}
		marked, err := p.bucket.Stat(t.Context(), tt.key)
		must(t, err)
		p.intercept = before(tt.call, tt.nth, func() {
			if err := p.bucket.DeleteIf(t.Context(), tt.key, marked.Tag); err != nil && !errors.Is(err, drivers.ErrChanged) {
				t.Error(err)
			}
		})
		err = p.put(tt.put.tagged("v1"))
		_, statErr := p.bucket.Stat(t.Context(), tt.key)
		if kept := statErr == nil; kept != tt.kept || tt.kept && err != nil || !tt.kept && !isA[ErrManifestBlobUnknown](err) {
			t.Errorf("a %s is removed before %q: Put = %v, and it is kept: %v, want %v", tt.name, tt.call, err, kept, tt.kept)
		}
	}
}

// TestLongCondemnedChild checks that the mark is taken off a child of any length.
func TestLongCondemnedChild(t *testing.T) {
	p := newPushes(t, Config{})
	child := imageOf(p.blob("config")).with("annotations", map[string]string{"a": strings.Repeat("x", envelope.MaxRaw)})
	p.mustPut(child)
	m, err := catalog.New(p.bucket).LoadManifest(t.Context(), pushRepo, child.Digest)
	must(t, err)
	next := m.Value
	markCondemned(&next)
	_, err = catalog.New(p.bucket).ReplaceManifest(t.Context(), p.s.newDeadline(), m, next, m.Raw)
	must(t, err)
	must(t, p.put(indexOf(child.Digest)))
	m, err = catalog.New(p.bucket).LoadManifest(t.Context(), pushRepo, child.Digest)
	if err != nil || m.Value.State != catalog.Live || string(m.Raw) != string(child.Content) {
		t.Errorf("the child = %+v with %d bytes, %v, want it live, with %d bytes", m.Value, len(m.Raw), err, len(child.Content))
	}
	if len(p.s.loads) != 0 {
		t.Error("the memory of the child was not given back")
	}
}
