package s3

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestCheck checks settings that the SDK would refuse as well, but later and
// without their names.
func TestCheck(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string // empty if the configuration is valid
	}{
		{Config{Accelerate: true, DualStack: true}, ""},
		{Config{FIPS: true, DualStack: true}, ""},
		{Config{Accelerate: true, PublicEndpoint: "https://s3.example.com"}, ""},
		{Config{Accelerate: true, Endpoint: "https://s3.example.com"}, "s3.Config.Accelerate"},
		{Config{DualStack: true, Endpoint: "https://s3.example.com"}, "s3.Config.DualStack"},
		{Config{FIPS: true, Endpoint: "https://s3.example.com"}, "s3.Config.FIPS"},
		{Config{Accelerate: true, PathStyle: true}, "s3.Config.Accelerate"},
		{Config{Accelerate: true, FIPS: true}, "s3.Config.Accelerate"},
		{Config{StorageClass: "GLACIER"}, "s3.Config.StorageClass"},
		{Config{StorageClass: "DEEP_ARCHIVE"}, "s3.Config.StorageClass"},
		{Config{StorageClass: "GLACIER_IR"}, ""},
		{Config{KMSKeyID: "key"}, "s3.Config.KMSKeyID"},
		{Config{KMSKeyID: "key", SSE: "AES256"}, "s3.Config.KMSKeyID"},
		{Config{KMSKeyID: "key", SSE: "aws:kms:dsse"}, ""},
		{Config{RequestPayer: "me"}, "s3.Config.RequestPayer"},
		{Config{RequestPayer: "requester"}, ""},
		{Config{ExpectedBucketOwner: "12345678901"}, "s3.Config.ExpectedBucketOwner"},
		{Config{ExpectedBucketOwner: "arn:aws:iam:"}, "s3.Config.ExpectedBucketOwner"},
		{Config{ExpectedBucketOwner: "012345678901"}, ""},
	} {
		cfg := test.cfg
		cfg.Bucket, cfg.Region, cfg.AccessKeyID, cfg.SecretAccessKey = "blobs", "us-west-2", "id", "secret"
		err := cfg.Validate()
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Validate of %+v = %v, want an error that names %s", test.cfg, err, test.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("Validate of %+v = %v", test.cfg, err)
		}
		if _, err := connect(t.Context(), cfg); err != nil {
			t.Errorf("connect with %+v = %v", test.cfg, err)
		}
	}
}

// TestStanding checks that all requests have the signed headers of
// ExpectedBucketOwner and RequestPayer. URLs have them as parameters, so that
// clients need no headers.
func TestStanding(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxyOf(t, newBucketOf(t, emulator.MinIO(t)))
	want := map[string]string{"x-amz-expected-bucket-owner": "012345678901", "x-amz-request-payer": "requester"}
	cfg.ExpectedBucketOwner, cfg.RequestPayer = "012345678901", "requester"
	var mu sync.Mutex
	seen := make(map[string]bool)
	proxy.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("X-Amz-Signature") {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		seen[operation(r)] = true
		for name, value := range want {
			if got := r.Header.Get(name); got != value || !strings.Contains(r.Header.Get("Authorization"), name) {
				t.Errorf("%s has %s: %q, want %q and signed", operation(r), name, got, value)
			}
		}
		return false
	})
	b := openBucket(t, cfg)
	create(t, b, "text")
	if err := firstError(b.List(t.Context(), "", "", 0)); err != nil {
		t.Error(err)
	}
	for _, op := range []string{"PutObject", "DeleteObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "ListObjectsV2"} {
		if !seen[op] {
			t.Errorf("no request is a %s", op)
		}
	}
	signed, err := b.SignGet(t.Context(), "k", drivers.SignOptions{Expires: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		if !strings.Contains(signed.URL, "&"+name+"="+value) {
			t.Errorf("the URL is %s, want it to contain %s=%s in lower case", signed.URL, name, value)
		}
	}
	if status, body := fetch(t, signed.URL); status != http.StatusOK || body != "text" {
		t.Errorf("GET of the URL = %d %q, want the object", status, body)
	}
}

// TestOtherOwner opens a bucket of versitygw, which compares the owner. Its
// accounts have other numbers.
func TestOtherOwner(t *testing.T) {
	t.Parallel()
	s := emulator.VersityGW(t)
	cfg := newBucketOf(t, s)
	cfg.ExpectedBucketOwner = "012345678901"
	_, err := Open(t.Context(), cfg)
	wantRefused(t, err, "Open of another account's bucket")
	wantText(t, err, "account 012345678901 (s3.Config.ExpectedBucketOwner)", "Open of another account's bucket")
}
