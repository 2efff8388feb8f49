package blobstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers/envelope"
)

// TestPushOntoManifest pushes a manifest that is there already, in every state, at a
// process that knows its blobs, and at one that does not and so reads it first.
func TestPushOntoManifest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*catalog.Manifest)
		content string // of the manifest; empty for the right one
		sameID  bool
		hints   []string
		replace bool // the push replaces the manifest
	}{
		{"live", nil, "", true, []string{"v1"}, false},
		{"live, with other hints", func(m *catalog.Manifest) { m.Hints = []string{"v0"} }, "", true, []string{"v0", "v1"}, true},
		{"live, with many hints", func(m *catalog.Manifest) { m.MoreHints = true; m.Hints = nil }, "", true, nil, false},
		{"live, of another media type", func(m *catalog.Manifest) { m.MediaType = "a/b" }, "", true, []string{"v1"}, true},
		{"live, with damaged bytes", nil, "damaged", true, []string{"v1"}, true},
		{"condemned", markCondemned, "", true, []string{"v1"}, true},
		{"condemned, with other hints", func(m *catalog.Manifest) { markCondemned(m); m.Hints = []string{"v0"} }, "", true, []string{"v0", "v1"}, true},
		{"deleted", func(m *catalog.Manifest) { m.State = catalog.Deleted; m.Hints = []string{"v0"} }, "", false, []string{"v1"}, true},
	} {
		for _, cold := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cold process: %v", tt.name, cold), func(t *testing.T) {
				p := newPushes(t, Config{})
				put := imageOf(p.blob("config")).tagged("v1")
				p.mustPut(put)
				before := p.stored(put.Digest)
				p.rewrite(before, tt.change, tt.content)
				if !cold {
					_, err := p.Stat(t.Context(), digest.FromString("config"))
					must(t, err)
				}
				p.calls = nil
				must(t, p.put(put))
				p.wantResolves("v1", put.Digest)
				after := p.stored(put.Digest)
				if v := after.Value; v.State != catalog.Live || (v.ID == before.Value.ID) != tt.sameID || !slices.Equal(v.Hints, tt.hints) ||
					v.MediaType != before.Value.MediaType || string(after.Raw) != string(put.Content) {
					t.Errorf("the manifest = %+v with %q, want it live, with the hints %q, and the ID %s: %v", v, after.Raw, tt.hints, before.Value.ID, tt.sameID)
				}
				if got := slices.Contains(p.requests(), "Replace manifest"); got != tt.replace {
					t.Errorf("the push makes %q, want a Replace of the manifest: %v", p.requests(), tt.replace)
				}
			})
		}
	}
}

// rewrite changes a manifest in the bucket, and its bytes unless content is empty.
func (p *pushes) rewrite(m catalog.StoredManifest, change func(*catalog.Manifest), content string) {
	p.t.Helper()
	next := m.Value
	if change != nil {
		change(&next)
	}
	switch {
	case content != "":
		m.Raw = []byte(content)
	case next.State == catalog.Deleted:
		m.Raw = nil
	}
	_, err := catalog.New(p.bucket).ReplaceManifest(p.t.Context(), p.s.newDeadline(), m, next, m.Raw)
	must(p.t, err)
}

// TestPushOntoUnknownState checks that a push leaves a manifest of a later version of
// the format alone.
func TestPushOntoUnknownState(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config")).tagged("v1")
	p.mustPut(put)
	p.changeManifest(put.Digest, func(m *catalog.Manifest) { m.State = "frozen" })
	if err := p.put(put); err == nil || p.stored(put.Digest).Value.State != "frozen" {
		t.Errorf("Put = %v, want an error", err)
	}
}

// TestManyHints checks that a manifest lists the first 100 tags only, and that it is not
// replaced for more.
func TestManyHints(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config"))
	var tags []string
	for i := range catalog.MaxHints {
		tags = append(tags, fmt.Sprintf("t%03d", i))
	}
	must(t, p.put(put.tagged(tags...)))
	if m := p.stored(put.Digest).Value; !slices.Equal(m.Hints, tags) || m.MoreHints {
		t.Errorf("after 100 tags the hints are %q and more: %v", m.Hints, m.MoreHints)
	}
	must(t, p.put(put.tagged("u0")))
	p.calls = nil
	must(t, p.put(put.tagged("u1")))
	p.wantRequests("a push of another tag", "Open tag", "Open manifest", "Create tag")
	if m := p.stored(put.Digest).Value; !slices.Equal(m.Hints, tags) || !m.MoreHints {
		t.Errorf("after 102 tags the hints are %q and more: %v", m.Hints, m.MoreHints)
	}
}

// TestLongManifest pushes manifests that are not held in memory, over every state of
// themselves.
func TestLongManifest(t *testing.T) {
	for _, size := range []int{envelope.MaxRaw, 1 << 20} {
		p := newPushes(t, Config{})
		put := imageOf(p.blob("config")).with("annotations", map[string]string{"a": strings.Repeat("x", size)}).tagged("v1")
		for range 2 {
			for _, tag := range []string{"v1", "v2"} {
				must(t, p.put(put.tagged(tag)))
				p.wantResolves(tag, put.Digest)
			}
			must(t, p.Tags().Tag(t.Context(), "v3", Descriptor{Digest: put.Digest}))
			p.wantResolves("v3", put.Digest)
			must(t, p.Manifests().Delete(t.Context(), put.Digest))
			p.wantResolves("v1", "")
		}
		if len(p.s.loads) != 0 {
			t.Error("the memory of a manifest was not given back")
		}
	}
}

// TestVouchingEnds lets the manifest, which vouches for its references, be deleted with
// one of them after the push has read it. The push then checks the references.
func TestVouchingEnds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		tags  []string // of the push
		moved bool     // one of the tags before
		call  string   // of the push, before which the manifest is deleted
		nth   int
		check func(error) bool
	}{
		{"before the hint", []string{"v2"}, false, "Replace manifest", 1, isA[ErrManifestBlobUnknown]},
		{"before the second pass", []string{"v1"}, false, "Replace tag", 1, isA[ErrManifestBlobUnknown]},
		{"after a tag was moved", []string{"v1", "v2"}, true, "Replace tag", 2, is(ErrUnavailable)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPushes(t, Config{})
			blob := p.blob("config")
			put, other := imageOf(blob), imageOf(p.blob("other")).tagged(tt.tags...)
			p.mustPut(put.tagged("v1"))
			if tt.call == "Replace tag" {
				p.mustPut(put.tagged(tt.tags...))
				p.mustPut(other)
			}
			p.intercept = before(tt.call, tt.nth, func() {
				p.mustDelete(put.Digest)
				must(t, p.another().Delete(t.Context(), blob))
				p.mustPut(other)
			})
			err := p.put(put.tagged(tt.tags...))
			if !tt.check(err) || tt.moved && isA[ErrManifestBlobUnknown](err) {
				t.Errorf("Put = %v", err)
			}
			if m := p.stored(put.Digest).Value; m.Readable() {
				t.Errorf("the manifest without its blob is %s", m.State)
			}
		})
	}
}

// TestConcurrentPushes pushes one manifest by many tags at once, at several processes,
// while it is deleted again and again. In the end all tags of the last pushes resolve.
func TestConcurrentPushes(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config"))
	errs := make(chan error)
	const pushers, rounds = 4, 10
	for i := range pushers {
		r := p.another()
		go func() {
			var err error
			for range rounds {
				_, e := r.Manifests().Put(t.Context(), put.tagged("own", fmt.Sprint("t", i)))
				err = errors.Join(err, e)
				if i == 0 {
					if e := r.Manifests().Delete(t.Context(), put.Digest); !errors.Is(e, ErrManifestUnknown) {
						err = errors.Join(err, e)
					}
				}
			}
			errs <- err
		}()
	}
	for range pushers {
		must(t, <-errs)
	}
	for i := range pushers {
		must(t, p.put(put.tagged(fmt.Sprint("t", i))))
	}
	for i := range pushers {
		p.wantResolves(fmt.Sprint("t", i), put.Digest)
	}
}
