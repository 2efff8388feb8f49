package s3

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// TestUploadsPrefix checks that uploads are listed by their prefix on Amazon
// S3. For any other endpoint, even one from the environment, the whole bucket
// is listed.
func TestUploadsPrefix(t *testing.T) {
	noCredentials(t)
	for _, test := range []struct{ endpoint, environment, want string }{
		{"", "", "team/data/"},
		{"https://s3.eu-west-1.amazonaws.com", "", "team/data/"},
		{"https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com", "", "team/data/"},
		{"https://s3.cn-north-1.amazonaws.com.cn", "", "team/data/"},
		{"https://s3.example.com", "", ""},
		{"https://notamazonaws.com", "", ""},
		{"", "http://127.0.0.1:9000", ""},
		{"", "https://s3.dualstack.eu-west-1.amazonaws.com", "team/data/"},
	} {
		t.Setenv("AWS_ENDPOINT_URL_S3", test.environment)
		b, _ := connectBucket(t, Config{
			Bucket: "b", Prefix: "team", Region: "eu-west-1", Endpoint: test.endpoint, AccessKeyID: "id", SecretAccessKey: "secret",
		})
		if got := aws.ToString(b.store.uploadsPrefix("data/")); got != test.want {
			t.Errorf("uploadsPrefix at %q with AWS_ENDPOINT_URL_S3=%q = %q, want %q", test.endpoint, test.environment, got, test.want)
		}
	}
}

// TestDeleteBatches deletes more keys than one DeleteObjects may have.
func TestDeleteBatches(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.Knobs{})
	b, _ := connectBucket(t, newBucketOfDouble(s))
	last := fmt.Sprint("k", deleteBatch)
	if _, err := b.Create(t.Context(), last, textBody("text")); err != nil {
		t.Fatal(err)
	}
	s.Seen()
	var keys []string
	for i := range deleteBatch + 1 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	if err := b.Delete(t.Context(), keys...); err != nil {
		t.Fatalf("Delete of %d keys = %v", len(keys), err)
	}
	var operations []string
	for _, r := range s.Seen() {
		operations = append(operations, r.Operation)
	}
	if want := []string{"DeleteObjects", "DeleteObjects"}; !slices.Equal(operations, want) {
		t.Errorf("Delete of %d keys sent %q, want %q", len(keys), operations, want)
	}
	if objects, _ := s.Left(b.store.cfg.Bucket); len(objects) > 0 {
		t.Errorf("Delete of %d keys leaves %q", len(keys), objects)
	}
}

// TestPages counts the keys in the pages of listings.
func TestPages(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"versitygw": newBucketOf(t, emulator.VersityGW(t)),
		"double":    newBucketOfDouble(s3double.New(t, s3double.Knobs{})),
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.TestPages(t, "<Key>", http.DefaultTransport, func(through http.RoundTripper) drivers.Bucket {
				cfg.Transport = through
				return openBucket(t, cfg)
			})
		})
	}
}

func TestPageSize(t *testing.T) {
	for _, test := range []struct {
		prefix, after string
		want          int
	}{
		{"", "", 10},
		{"tags/", "", 10},
		{"tags/", "tags/v1", 10},
		{"tags/", "tags/v1.2-rc.3", 13},
		{"a-b/tags/", "a-b/tags/v1.2", 11},
		{"tags/v", "", maxKeys},
		{"", "a/b", maxKeys},
	} {
		if got := pageSize(test.prefix, test.after, 10); got != test.want {
			t.Errorf("pageSize(%q, %q, 10) = %d, want %d", test.prefix, test.after, got, test.want)
		}
	}
}
