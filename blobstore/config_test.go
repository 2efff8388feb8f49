package blobstore

import (
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers/memory"
)

// Open refuses a wrong value, and its error starts with the name of the field.
func TestOpenWithWrongConfig(t *testing.T) {
	for field, cfg := range map[string]Config{
		"blobstore.Config.InlineMax: -1 bytes, want 0 to 65536": {InlineMax: -1},
		"blobstore.Config.InlineMax: 65537 bytes":               {InlineMax: 64<<10 + 1},
		"blobstore.Config.RequestLimit: -1s":                    {RequestLimit: -time.Second},
		"blobstore.Config.Grace: 11h0m0s, want at least twice":  {Grace: 11 * time.Hour},
		"upload.Config.Memory: 1 bytes":                         {Upload: UploadConfig{Memory: 1}},
		"blobstore.Config.Manifests.MaxSize: 67108865 bytes":    {Manifests: ManifestConfig{MaxSize: 64<<20 + 1, Memory: 1 << 30}},
		"blobstore.Config.Manifests.Memory: 1 bytes":            {Manifests: ManifestConfig{Memory: 1}},
		`blobstore.Config.Manifests.ImmutableTags[1].Repository: "A" has`: {Manifests: ManifestConfig{
			ImmutableTags: []ImmutableTags{{Tags: []string{"v*"}}, {Repository: "A", Tags: []string{"*"}}},
		}},
		`blobstore.Config.Manifests.ImmutableTags[0].Tags: "a/b" has a '/'`: {Manifests: ManifestConfig{
			ImmutableTags: []ImmutableTags{{Tags: []string{"a/b"}}},
		}},
		"blobstore.Config.Manifests.ImmutableTags[0].Tags: is empty": {Manifests: ManifestConfig{
			ImmutableTags: []ImmutableTags{{Repository: "a"}},
		}},
	} {
		b, err := memory.Open(t.Context(), memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), b, cfg); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("Open = %v, want an error that starts with %q", err, field)
		}
		for o, err := range b.List(t.Context(), "", "", 0) {
			t.Errorf("a refused Open has stored %s, %v", o.Key, err)
		}
	}
}

// TestImmutability checks which tags are immutable where.
func TestImmutability(t *testing.T) {
	rules, err := newImmutability([]ImmutableTags{
		{Tags: []string{"v*", "latest"}},
		{Repository: "library/**", Tags: []string{"*"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		repository, tag string
		want            bool
	}{
		{"a", "v1", true},
		{"a", "latest", true},
		{"a", "late", false},
		{"library/a/b", "late", true},
	} {
		if got := rules.of(test.repository).match(test.tag); got != test.want {
			t.Errorf("the tag %s of %s is immutable: %v, want %v", test.tag, test.repository, got, test.want)
		}
	}
}
