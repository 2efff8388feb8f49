package catalog_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
)

const (
	hex256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	sha256 = digest.Digest("sha256:" + hex256)
)

var sha512 = digest.SHA512.FromString("hello")

func TestKeys(t *testing.T) {
	for _, tc := range []struct{ name, key, want string }{
		{"record", catalog.RecordKey(sha256), "blobs/sha256/2c/" + hex256 + "/record"},
		{"link", catalog.LinkKey(sha256, "team/app"), "blobs/sha256/2c/" + hex256 + "/links/team!app"},
		{"links", catalog.LinksPrefix(sha256), "blobs/sha256/2c/" + hex256 + "/links/"},
		{"alias", catalog.AliasKey(sha512), "aliases/sha512/" + sha512.Encoded()[:2] + "/" + sha512.Encoded()},
		{"session", catalog.Layout{}.Session("id"), "uploads/id/"},
		{"session record", catalog.Layout{}.SessionRecord("id", 12), "uploads/id/00000012"},
		{"token key", catalog.Layout{}.TokenKey(), "meta/token-key"},
		{"format", catalog.FormatKey, "meta/format"},
	} {
		if tc.key != tc.want {
			t.Errorf("%s key = %q, want %q", tc.name, tc.key, tc.want)
		}
	}
}

func TestNewKeys(t *testing.T) {
	for _, tc := range []struct {
		name, prefix string
		key          func() string
	}{
		{"data with a digest", "data/sha256/2c/" + hex256 + "/", func() string { return catalog.NewDataKey(sha256) }},
		{"data without a digest", "data/new/", func() string { return catalog.NewDataKey("") }},
		{"data of an upload", "data/new/", func() string { return catalog.Layout{}.Data("") }},
		{"dead entry", "meta/dead/", catalog.NewDeadKey},
	} {
		a, b := tc.key(), tc.key()
		if !strings.HasPrefix(a, tc.prefix) || a == b {
			t.Errorf("%s: keys %q and %q, want two different keys under %q", tc.name, a, b, tc.prefix)
		}
	}
}

// Every key is valid for all drivers, with the longest repository name that berth
// accepts.
func TestKeysAreValid(t *testing.T) {
	longest := strings.Repeat("a/", 127) + "a"
	for _, key := range []string{
		catalog.RecordKey(sha256), catalog.LinkKey(sha256, longest), catalog.AliasKey(sha512), catalog.NewDeadKey(),
		catalog.NewDataKey(""), catalog.NewDataKey(sha256), catalog.Layout{}.SessionRecord("id", 1),
		catalog.FormatKey, catalog.TokenKey, catalog.SigningKey, catalog.ExampleDataKey,
	} {
		if err := drivers.CheckKey(key); err != nil {
			t.Errorf("CheckKey(%q) = %v, want nil", key, err)
		}
	}
}

// A listing of blobs shows all links of a digest, then its record.
func TestKeyOrder(t *testing.T) {
	keys := []string{catalog.LinkKey(sha256, "a"), catalog.LinkKey(sha256, "zebra/z"), catalog.RecordKey(sha256)}
	if !slices.IsSorted(keys) {
		t.Errorf("keys of one digest are not in order: %q", keys)
	}
}

func TestParseLinkKey(t *testing.T) {
	for _, repository := range []string{"a", "team/app", "links", "record", "example.com/a"} {
		d, got, ok := catalog.ParseLinkKey(catalog.LinkKey(sha256, repository))
		if d != sha256 || got != repository || !ok {
			t.Errorf("ParseLinkKey of a link of %s = %s, %q, %t", repository, d, got, ok)
		}
	}
	for _, key := range append(notBlobKeys, catalog.RecordKey(sha256)) {
		if d, repository, ok := catalog.ParseLinkKey(key); ok {
			t.Errorf("ParseLinkKey(%q) = %s, %q, true, want false", key, d, repository)
		}
	}
}

func TestParseRecordKey(t *testing.T) {
	if d, ok := catalog.ParseRecordKey(catalog.RecordKey(sha256)); d != sha256 || !ok {
		t.Errorf("ParseRecordKey of a record = %s, %t, want %s, true", d, ok, sha256)
	}
	for _, key := range append(notBlobKeys, catalog.LinkKey(sha256, "record")) {
		if d, ok := catalog.ParseRecordKey(key); ok {
			t.Errorf("ParseRecordKey(%q) = %s, true, want false", key, d)
		}
	}
}

var notBlobKeys = []string{
	"",
	"record",
	"blobs/",
	"blobs/sha256/2c/record",
	"blobs/sha256/2c/" + hex256,
	"blobs/sha256/2c/" + hex256[1:] + "/record",
	"blobs/sha256/2c/" + hex256[1:] + "/links/a",
	"blobs/md5/2c/" + hex256 + "/record",
	"data/sha256/2c/" + hex256 + "/record",
}
