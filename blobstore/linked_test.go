package blobstore

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// TestLinked lists blobs with their repositories. One repository was deleted from a blob,
// and one blob has no repository any more.
func TestLinked(t *testing.T) {
	for name, open := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, open(t), smallParts())
			want := map[digest.Digest]LinkedBlob{}
			put := func(text string, repositories ...string) digest.Digest {
				desc := Descriptor{Size: int64(len(text)), Digest: digest.FromString(text), MediaType: "application/octet-stream"}
				for _, name := range repositories {
					_, err := repository(t, s, name).Put(t.Context(), "", []byte(text))
					must(t, err)
				}
				want[desc.Digest] = LinkedBlob{desc, repositories}
				return desc.Digest
			}
			put("one", "a")
			shared := put("shared", "a", "a/b", "b")
			gone := put("gone", "b")
			must(t, repository(t, s, "b").Delete(t.Context(), gone))
			delete(want, gone)
			must(t, repository(t, s, "a").Delete(t.Context(), shared))
			want[shared] = LinkedBlob{want[shared].Descriptor, []string{"a/b", "b"}}

			got := map[digest.Digest]LinkedBlob{}
			var order []digest.Digest
			for blob, err := range s.Linked(t.Context()) {
				must(t, err)
				blob.MediaType = "application/octet-stream"
				got[blob.Digest] = blob
				order = append(order, blob.Digest)
			}
			if diff := cmp.Diff(want, got); diff != "" || !slices.IsSorted(order) {
				t.Errorf("Linked (-want +got), in the order %v:\n%s", order, diff)
			}
			for _, err := range s.Linked(t.Context()) {
				must(t, err)
				break // it must stop
			}
		})
	}
}

// TestEntries lists the tags that resolve, with the times at which they were written.
func TestEntries(t *testing.T) {
	p := newPushes(t, Config{})
	for _, err := range p.Tags().Entries(t.Context()) {
		if !errors.Is(err, ErrNameUnknown) {
			t.Errorf("Entries of a repository that does not exist: %v, want ErrNameUnknown", err)
		}
	}
	kept, deleted := imageOf(p.blob("a")), imageOf(p.blob("b"))
	kept.Tags, deleted.Tags = []string{"v1", "v3"}, nil
	p.mustPut(kept)
	p.mustPut(deleted)
	tags := p.createTags(1, deleted.Digest) // the deletion does not find it
	p.mustDelete(deleted.Digest)
	if _, err := p.Tags().Entry(t.Context(), tags[0]); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("Entry(%q), whose manifest was deleted: %v, want ErrManifestUnknown", tags[0], err)
	}
	var names []string
	for entry, err := range p.Tags().Entries(t.Context()) {
		must(t, err)
		names = append(names, entry.Tag)
		if age := time.Since(entry.Moved); entry.Digest != kept.Digest || age < 0 || age > time.Hour {
			t.Errorf("Entry = %+v, want the digest %s and a time of today", entry, kept.Digest)
		}
		if one, err := p.Tags().Entry(t.Context(), entry.Tag); err != nil || one.Tag != entry.Tag || !one.Moved.Equal(entry.Moved) {
			t.Errorf("Entry(%q) = %+v, %v, want %+v", entry.Tag, one, err, entry)
		}
	}
	if want := []string{"v1", "v3"}; !slices.Equal(names, want) {
		t.Errorf("Entries = %q, want %q", names, want)
	}
}

// TestAllManifests describes the manifests that were not deleted.
func TestAllManifests(t *testing.T) {
	p := newPushes(t, Config{})
	kept, deleted := imageOf(p.blob("a")), imageOf(p.blob("b"))
	p.mustPut(kept)
	p.mustPut(deleted)
	p.mustDelete(deleted.Digest)
	var got []Descriptor
	for desc, err := range p.Manifests().All(t.Context()) {
		must(t, err)
		got = append(got, desc.Descriptor)
	}
	if len(got) != 1 || got[0].Digest != kept.Digest || got[0].Size != int64(len(kept.Content)) {
		t.Errorf("All = %+v, want the manifest %s", got, kept.Digest)
	}
}
