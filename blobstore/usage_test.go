package blobstore

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/memory"
)

// TestUsage checks that reads count their lookups in the cache of links.
func TestUsage(t *testing.T) {
	bucket, err := memory.Open(t.Context(), memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), bucket, Config{})
	if err != nil {
		t.Fatal(err)
	}
	repo := s.Repository(named(t, "a"))
	if _, err := repo.Stat(t.Context(), digest.FromString("nothing")); err == nil {
		t.Fatal("Stat of an unknown blob = nil, want an error")
	}
	desc, err := repo.Put(t.Context(), "text/plain", []byte("tea"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := repo.Stat(t.Context(), desc.Digest); err != nil {
			t.Fatal(err)
		}
	}
	u := s.Usage()
	want := map[string]CacheUsage{"links": {Hits: 2, Misses: 1}, "aliases": {}, "manifests": {}}
	if diff := cmp.Diff(want, u.Caches); diff != "" {
		t.Errorf("caches (-want +got):\n%s", diff)
	}
	if u.Uploads.Free <= 0 || u.Uploads.Clients != 0 {
		t.Errorf("memory of uploads = %+v, want it free", u.Uploads)
	}
}
