package catalog_test

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
)

// TestDistributionKeys parses the keys that a CNCF distribution registry uses.
func TestDistributionKeys(t *testing.T) {
	const hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	d := digest.Digest("sha256:" + hex)
	if got, want := catalog.DistributionDataKey(d), "docker/registry/v2/blobs/sha256/2c/"+hex+"/data"; got != want {
		t.Errorf("DistributionDataKey = %s, want %s", got, want)
	}
	if err := drivers.CheckKey(catalog.DistributionDataKey(d)); err != nil {
		t.Error(err)
	}
}

// TestParseDistributionKeys parses keys of repositories, links and tags.
func TestParseDistributionKeys(t *testing.T) {
	const hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	const repos = "docker/registry/v2/repositories/"
	for key, want := range map[string]string{
		repos + "a/_layers/sha256/" + hex + "/link":           "a",
		repos + "a/b/_manifests/tags/_x/current/link":         "a/b",
		repos + "a/_uploads/x/data":                           "a",
		repos + "a/b":                                         "",
		repos + "_layers":                                     "",
		"docker/registry/v2/blobs/sha256/2c/" + hex + "/data": "",
	} {
		got, last, ok := catalog.DistributionRepo(key)
		if got != want || ok != (want != "") || ok && last <= key {
			t.Errorf("DistributionRepo(%s) = %q, %q, %v, want %q and a later key", key, got, last, ok, want)
		}
	}
	for key, want := range map[string]bool{"sha256/" + hex + "/link": true, "sha256/" + hex + "/data": false, "sha256/2c/link": false, hex + "/link": false} {
		prefix := catalog.DistributionLayers("a")
		if got, ok := catalog.ParseDistributionLink(prefix+key, prefix); ok != want || ok && got.Encoded() != hex {
			t.Errorf("ParseDistributionLink(%s) = %s, %v, want %v", key, got, ok, want)
		}
	}
	for key, want := range map[string]string{"v1/current/link": "v1", "v1/index/sha256/" + hex + "/link": "", "/current/link": ""} {
		if got, ok := catalog.ParseDistributionTag(catalog.DistributionTags("a")+key, "a"); ok != (want != "") || ok && got != want {
			t.Errorf("ParseDistributionTag(%s) = %q, %v, want %q", key, got, ok, want)
		}
	}
}
