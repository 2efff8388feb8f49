package blobstore

import (
	"testing"
)

// TestPushSmoke pushes, moves and deletes.
func TestPushSmoke(t *testing.T) {
	p := newPushes(t, Config{})
	image := imageOf(p.blob("config"), p.blob("layer")).tagged("v1")
	p.calls = nil
	must(t, p.put(image))
	p.wantRequests("a push", "Open tag", "Open manifest", "Open link", "Open link", "Open marker", "Create marker", "Create manifest", "Create tag")
	p.wantResolves("v1", image.Digest)
	must(t, p.put(image))
	p.wantRequests("again", "Open tag", "Open manifest", "Replace tag")
	must(t, p.put(image.tagged("v2")))
	p.wantRequests("another tag", "Open tag", "Open manifest", "Replace manifest", "Create tag")
	must(t, p.Tags().Untag(t.Context(), "v2"))
	p.wantRequests("Untag", "Open tag", "DeleteIf tag")
	must(t, p.Tags().Tag(t.Context(), "v3", Descriptor{Digest: image.Digest}))
	p.wantRequests("Tag", "Open tag", "Open manifest", "Replace manifest", "Create tag")
	must(t, p.Manifests().Delete(t.Context(), image.Digest))
	if len(p.calls) != 7 {
		t.Errorf("Delete makes %q, want 7 calls", p.requests())
	}
	p.wantResolves("v1", "")
	p.wantResolves("v3", "")
}
