package s3

import (
	"crypto/md5"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestRequests checks the requests of each call, and their headers.
func TestRequests(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxyOf(t, newBucketOf(t, emulator.VersityGW(t)))
	cfg.SSE, cfg.StorageClass = "AES256", "STANDARD_IA"
	b := openBucket(t, cfg)
	ctx := t.Context()
	body := drivers.NewBody([]byte("some "), []byte("text"))
	const sum = "LX0g5w==" // CRC-32C of "some text"
	withBody := map[string]string{"x-amz-checksum-crc32c": sum, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "Content-Length": "9", "Expect": ""}

	var o drivers.Object
	var u drivers.Upload
	var part drivers.Part
	var err error
	for _, test := range []struct {
		call       string
		run        func()
		operations string              // separated by spaces
		headers    []map[string]string // of the operation; an empty value is an absent header
	}{
		{"Create", func() { o, err = b.Create(ctx, "k", body) }, "PutObject",
			[]map[string]string{withBody, {"If-None-Match": "*", "x-amz-server-side-encryption": "AES256", "x-amz-storage-class": ""}}},
		{"Create under data/", func() { _, err = b.Create(ctx, "data/k", body) }, "PutObject", []map[string]string{{"x-amz-storage-class": "STANDARD_IA"}}},
		{"Create of a taken key", func() {
			if _, err = b.Create(ctx, "k", body); err == nil {
				t.Error("Create of a taken key = nil, want an error")
			}
			err = nil
		}, "PutObject", nil},
		{"Replace", func() { o, err = b.Replace(ctx, "k", o.Tag, body) }, "PutObject", []map[string]string{withBody, {"If-Match": `"` + etagOf(body) + `"`}}},
		{"Stat", func() { _, err = b.Stat(ctx, "k") }, "HeadObject", nil},
		{"Open", func() { wantObject(t, b, "k", "some text") }, "GetObject", []map[string]string{{"Range": ""}}},
		{"DeleteIf", func() { err = b.DeleteIf(ctx, "k", o.Tag) }, "DeleteObject", nil},
		{"Delete of one key", func() { err = b.Delete(ctx, "k") }, "DeleteObject", nil},
		{"Delete of three keys", func() { err = b.Delete(ctx, "k", "data/k", "l") }, "DeleteObjects", nil},
		{"StartUpload", func() { u, err = b.StartUpload(ctx, "data/u") }, "CreateMultipartUpload", []map[string]string{{
			"x-amz-server-side-encryption": "AES256", "x-amz-storage-class": "STANDARD_IA",
			"x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT",
		}}},
		{"PutPart", func() { part, err = b.PutPart(ctx, u, 1, body) }, "UploadPart", []map[string]string{withBody}},
		{"Complete", func() { _, err = complete(t, b, u, part) }, "CompleteMultipartUpload",
			[]map[string]string{{"If-None-Match": "*", "x-amz-checksum-crc32c": sum, "x-amz-checksum-type": "FULL_OBJECT"}}},
		{"Abort", func() { err = b.Abort(ctx, u) }, "AbortMultipartUpload", nil},
		{"SignGet", func() { _, err = b.SignGet(ctx, "data/u", drivers.SignOptions{Expires: 1e9}) }, "", nil},
	} {
		proxy.intercept(nil)
		if test.run(); err != nil {
			t.Fatalf("%s = %v", test.call, err)
		}
		if got, want := proxy.operations(), strings.Fields(test.operations); !slices.Equal(got, want) {
			t.Errorf("%s sent %q, want %q", test.call, got, want)
		}
		for _, headers := range test.headers {
			for name, want := range headers {
				if got := proxy.lastHeader(test.operations).Get(name); got != want {
					t.Errorf("the %s of %s has %s: %q, want %q", test.operations, test.call, name, got, want)
				}
			}
		}
	}
}

// TestRequestsNoChecksums checks that with Config.Checksum none, payloads are hashed
// for the signature instead, and that DeleteObjects has the Content-MD5 that it
// requires.
func TestRequestsNoChecksums(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxyOf(t, newBucketOf(t, emulator.VersityGW(t)))
	cfg.Checksum = "none"
	b := openBucket(t, cfg)
	proxy.intercept(nil)
	create(t, b, "text")
	u, err := b.StartUpload(t.Context(), "data/u")
	if err != nil {
		t.Fatal(err)
	}
	part, err := b.PutPart(t.Context(), u, 1, textBody("text"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := complete(t, b, u, part); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "k", "data/u"); err != nil {
		t.Fatal(err)
	}
	for _, op := range proxy.operations() {
		for name := range proxy.lastHeader(op) {
			if strings.HasPrefix(name, "X-Amz-Checksum") {
				t.Errorf("%s has %s, want no checksum", op, name)
			}
		}
	}
	const sum = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1" // SHA-256 of "text"
	for _, op := range []string{"PutObject", "UploadPart"} {
		if got := proxy.lastHeader(op).Get("x-amz-content-sha256"); got != sum {
			t.Errorf("%s has x-amz-content-sha256: %s, want %s", op, got, sum)
		}
	}
	if proxy.lastHeader("DeleteObjects").Get("Content-MD5") == "" {
		t.Error("DeleteObjects has no Content-MD5")
	}
}

// etagOf returns the ETag, without quotes, of an object with this body on a store
// where the ETag is the MD5.
func etagOf(body drivers.Body) string { return fmt.Sprintf("%x", md5.Sum(body.Bytes())) }
