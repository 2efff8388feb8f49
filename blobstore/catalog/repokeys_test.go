package catalog

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// TestRepositoryKeys checks that the keys of repositories are valid for every
// driver, at their longest too, and parse back to what they were made from.
func TestRepositoryKeys(t *testing.T) {
	type parsed struct {
		repository, tag string
		first, second   digest.Digest
		ok              bool
	}
	d256, d512 := digest.SHA256.FromString("a"), digest.SHA512.FromString("b")
	for _, repo := range []string{"a", "a/b-c__d/e.f", strings.Repeat("n", 255)} {
		check := func(key string, got, want parsed) {
			t.Helper()
			want.repository, want.ok = repo, true
			if err := drivers.CheckKey(key); got != want || err != nil {
				t.Errorf("%q parses to %+v, want %+v; CheckKey = %v", key, got, want, err)
			}
		}
		for _, d := range []digest.Digest{d256, d512} {
			key := ManifestKey(repo, d)
			var got parsed
			got.repository, got.first, got.ok = ParseManifestKey(key)
			check(key, got, parsed{first: d})
			key = EntryKey(repo, d512, d)
			got.repository, got.first, got.second, got.ok = ParseEntryKey(key)
			check(key, got, parsed{first: d512, second: d})
		}
		for _, tag := range []string{"latest", "_", strings.Repeat("T", 128)} {
			key := TagKey(repo, tag)
			var got parsed
			got.repository, got.tag, got.ok = ParseTagKey(key)
			check(key, got, parsed{tag: tag})
		}
		key := MarkerKey(repo)
		var got parsed
		got.repository, got.ok = ParseMarkerKey(key)
		check(key, got, parsed{})
	}
}

// TestForeignRepositoryKeys checks that other keys are not taken for keys of
// repositories.
func TestForeignRepositoryKeys(t *testing.T) {
	for _, key := range []string{
		"", "repos/", "repos//tags/a", "repos/a/tags/", "repos/a/tags/b/c", "repos/a/manifests/sha256/xyz",
		"repos/a/referrers/sha256-xyz/sha256-xyz", "catalog/", "catalog/a/b", "blobs/a/tags/b", LimitsKey,
	} {
		_, _, isTag := ParseTagKey(key)
		_, _, isManifest := ParseManifestKey(key)
		_, _, _, isEntry := ParseEntryKey(key)
		_, isMarker := ParseMarkerKey(key)
		if isTag || isManifest || isEntry || isMarker {
			t.Errorf("%q: tag %v, manifest %v, entry %v, marker %v, want none", key, isTag, isManifest, isEntry, isMarker)
		}
	}
}
