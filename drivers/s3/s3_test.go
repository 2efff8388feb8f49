package s3

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// newBucketOf creates a bucket on the server, and returns its configuration.
func newBucketOf(t *testing.T, s *emulator.S3) Config {
	t.Helper()
	return Config{
		Bucket: s.Bucket(t), Region: s.Region, Endpoint: s.Endpoint, PathStyle: true,
		AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey,
	}
}

// newBucketOfDouble creates a bucket on the double, and returns its configuration.
func newBucketOfDouble(s *s3double.Store) Config {
	return Config{
		Bucket: s.Bucket(), Region: s3double.Region, Endpoint: s.Endpoint(), PathStyle: true,
		AccessKeyID: s3double.AccessKeyID, SecretAccessKey: s3double.SecretAccessKey,
	}
}

func openBucket(t *testing.T, cfg Config) *bucket {
	t.Helper()
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	t.Cleanup(func() { b.Close() })
	return b.(*bucket)
}

// connectBucket returns a bucket without probing its store. It makes no request
// to the store.
func connectBucket(t *testing.T, cfg Config) (*bucket, *connection) {
	t.Helper()
	c, err := connect(t.Context(), cfg)
	if err != nil {
		t.Fatalf("connect() = %v", err)
	}
	signer, err := newSigner(t.Context(), &cfg, c.sdk)
	if err != nil {
		t.Fatalf("newSigner() = %v", err)
	}
	return newBucket(c, signer, capabilities{conditionalDelete: true}), c
}

func textBody(text string) drivers.Body { return drivers.NewBody([]byte(text)) }

// create stores text under the key k.
func create(t *testing.T, b drivers.Bucket, text string) drivers.Object {
	t.Helper()
	o, err := b.Create(t.Context(), "k", textBody(text))
	if err != nil {
		t.Fatalf("Create(k) = %v", err)
	}
	return o
}

// startUpload starts an upload of key, and stores its only part.
func startUpload(t *testing.T, b drivers.Bucket, key string) (drivers.Upload, drivers.Part) {
	t.Helper()
	u, err := b.StartUpload(t.Context(), key)
	if err != nil {
		t.Fatalf("StartUpload(%q) = %v", key, err)
	}
	part, err := b.PutPart(t.Context(), u, 1, textBody("part"))
	if err != nil {
		t.Fatalf("PutPart(%q, 1) = %v", key, err)
	}
	return u, part
}

// complete completes an upload of one part.
func complete(t *testing.T, b drivers.Bucket, u drivers.Upload, part drivers.Part) (drivers.Object, error) {
	t.Helper()
	return b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C)
}

// firstError returns the first error of a listing.
func firstError[T any](seq func(func(T, error) bool)) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

// fetch requests a URL without any credentials.
func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := new(http.Client).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(p)
}

func wantObject(t *testing.T, b drivers.Bucket, key, text string) {
	t.Helper()
	r, _, err := b.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatalf("Open(%q) = %v", key, err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, []byte(text)) {
		t.Errorf("Open(%q) reads %q, %v, want %q", key, got, err, text)
	}
}

// sentinels returns the texts of the sentinels that err wraps.
func sentinels(err error) string {
	var texts []string
	for _, s := range []error{drivers.ErrNotFound, drivers.ErrExists, drivers.ErrChanged, drivers.ErrRange, drivers.ErrBusy, drivers.ErrRefused, drivers.ErrFull, errors.ErrUnsupported} {
		if errors.Is(err, s) {
			texts = append(texts, s.Error())
		}
	}
	return strings.Join(texts, ", ")
}

// wantOnly fails the test unless err wraps this sentinel and no other.
func wantOnly(t *testing.T, err, sentinel error, call string) {
	t.Helper()
	if got := sentinels(err); got != sentinel.Error() {
		t.Errorf("%s = %v (wraps %q), want only %q", call, err, got, sentinel)
	}
}

func wantBusy(t *testing.T, err error, call string) {
	t.Helper()
	wantOnly(t, err, drivers.ErrBusy, call)
}

func wantRefused(t *testing.T, err error, call string) {
	t.Helper()
	wantOnly(t, err, drivers.ErrRefused, call)
}

// wantNoClaim fails the test unless err is an error without a sentinel about a
// key.
func wantNoClaim(t *testing.T, err error, call string) {
	t.Helper()
	if got := sentinels(err); err == nil || got != "" && got != drivers.ErrRefused.Error() {
		t.Errorf("%s = %v (wraps %q), want an error without a sentinel about a key", call, err, got)
	}
}

// wantText fails the test unless err contains the text.
func wantText(t *testing.T, err error, text, call string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s = %v, want an error that contains %q", call, err, text)
	}
}

func wantLog(t *testing.T, log, text string) {
	t.Helper()
	if !strings.Contains(log, text) {
		t.Errorf("the log does not contain %q:\n%s", text, log)
	}
}
