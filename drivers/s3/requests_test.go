package s3

import (
	"net/http"
	"slices"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// TestRequests checks the number of requests of each call, and their headers.
func TestRequests(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	cfg.SSE, cfg.StorageClass = "AES256", "STANDARD_IA"
	b := openBucket(t, cfg)
	ctx := t.Context()
	costs := func(what string, want ...string) {
		t.Helper()
		if got := d.operations(); !slices.Equal(got, want) {
			t.Errorf("%s sent %q, want %q", what, got, want)
		}
	}
	header := func(operation, name, want string) {
		t.Helper()
		if got := d.header(operation).Get(name); got != want {
			t.Errorf("%s has %s: %q, want %q", operation, name, got, want)
		}
	}
	body := drivers.NewBody([]byte("some "), []byte("text"))
	const sum = "LX0g5w==" // CRC-32C of "some text"
	if got := drivers.EncodeCRC32C(body.CRC32C); got != sum {
		t.Fatalf("the checksum is %s, want %s", got, sum)
	}
	sent := func(operation string) {
		t.Helper()
		header(operation, "x-amz-checksum-crc32c", sum)
		header(operation, "x-amz-content-sha256", "UNSIGNED-PAYLOAD")
		header(operation, "Content-Length", "9")
		header(operation, "Expect", "")
	}

	d.plays(nil)
	o, err := b.Create(ctx, "k", body)
	if err != nil {
		t.Fatal(err)
	}
	costs("Create", "PutObject")
	sent("PutObject")
	header("PutObject", "If-None-Match", "*")
	header("PutObject", "x-amz-server-side-encryption", "AES256")
	header("PutObject", "x-amz-storage-class", "")

	d.plays(nil)
	if _, err := b.Create(ctx, "data/k", body); err != nil {
		t.Fatal(err)
	}
	costs("Create", "PutObject")
	header("PutObject", "x-amz-storage-class", "STANDARD_IA")

	d.plays(nil)
	if _, err := b.Create(ctx, "k", body); err == nil {
		t.Fatal("Create of a taken key = nil")
	}
	costs("Create of a taken key", "PutObject")

	d.plays(nil)
	if o, err = b.Replace(ctx, "k", o.Tag, body); err != nil {
		t.Fatal(err)
	}
	costs("Replace", "PutObject")
	sent("PutObject")
	header("PutObject", "If-Match", `"`+o.Tag+`"`)

	d.plays(nil)
	if _, err := b.Stat(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	costs("Stat", "HeadObject")

	d.plays(nil)
	wantObject(t, b, "k", "some text")
	costs("Open", "GetObject")
	header("GetObject", "Range", "")

	d.plays(nil)
	if err := b.DeleteIf(ctx, "k", o.Tag); err != nil {
		t.Fatal(err)
	}
	costs("DeleteIf", "DeleteObject")

	d.plays(nil)
	if err := b.Delete(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	costs("Delete of one key", "DeleteObject")
	d.plays(nil)
	if err := b.Delete(ctx, "k", "data/k", "l"); err != nil {
		t.Fatal(err)
	}
	costs("Delete of three keys", "DeleteObjects")

	d.plays(nil)
	u, err := b.StartUpload(ctx, "data/u")
	if err != nil {
		t.Fatal(err)
	}
	costs("StartUpload", "CreateMultipartUpload")
	header("CreateMultipartUpload", "x-amz-server-side-encryption", "AES256")
	header("CreateMultipartUpload", "x-amz-storage-class", "STANDARD_IA")
	header("CreateMultipartUpload", "x-amz-checksum-algorithm", "CRC32C")
	header("CreateMultipartUpload", "x-amz-checksum-type", "FULL_OBJECT")

	d.plays(nil)
	part, err := b.PutPart(ctx, u, 1, body)
	if err != nil {
		t.Fatal(err)
	}
	costs("PutPart", "UploadPart")
	sent("UploadPart")

	d.plays(nil)
	if _, err := b.Complete(ctx, u, []drivers.Part{part}, part.CRC32C); err != nil {
		t.Fatal(err)
	}
	costs("Complete", "CompleteMultipartUpload")
	header("CompleteMultipartUpload", "If-None-Match", "*")
	header("CompleteMultipartUpload", "x-amz-checksum-crc32c", sum)
	header("CompleteMultipartUpload", "x-amz-checksum-type", "FULL_OBJECT")

	d.plays(nil)
	if err := b.Abort(ctx, u); err != nil {
		t.Fatal(err)
	}
	costs("Abort", "AbortMultipartUpload")

	d.plays(nil)
	if _, err := b.SignGet(ctx, "data/u", drivers.SignOptions{Expires: 1e9}); err != nil {
		t.Fatal(err)
	}
	costs("SignGet")
}

// TestRequestsNoChecksums checks that payloads are hashed for the signature
// instead, and that DeleteObjects has the checksum that it requires.
func TestRequestsNoChecksums(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	cfg.Checksum = "none"
	b := openBucket(t, cfg)
	d.plays(nil)
	create(t, b, "text")
	u, err := b.StartUpload(t.Context(), "data/u")
	if err != nil {
		t.Fatal(err)
	}
	part, err := b.PutPart(t.Context(), u, 1, drivers.NewBody([]byte("text")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "k", "data/u"); err != nil {
		t.Fatal(err)
	}
	for _, op := range d.operations() {
		for name := range d.header(op) {
			if len(name) > 14 && http.CanonicalHeaderKey(name)[:14] == "X-Amz-Checksum" {
				t.Errorf("%s has %s", op, name)
			}
		}
	}
	const sum = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1" // SHA-256 of "text"
	for _, op := range []string{"PutObject", "UploadPart"} {
		if got := d.header(op).Get("x-amz-content-sha256"); got != sum {
			t.Errorf("%s has x-amz-content-sha256: %s, want %s", op, got, sum)
		}
	}
	if d.header("DeleteObjects").Get("Content-MD5") == "" {
		t.Error("DeleteObjects has no Content-MD5")
	}
}
