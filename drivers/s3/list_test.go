package s3

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

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
		if got := aws.ToString(b.uploadsPrefix("data/")); got != test.want {
			t.Errorf("%q, AWS_ENDPOINT_URL_S3=%q: uploads are listed by the prefix %q, want %q", test.endpoint, test.environment, got, test.want)
		}
	}
}

// TestEndpointOfEnvironment checks that an endpoint from the environment is
// used and logged.
func TestEndpointOfEnvironment(t *testing.T) {
	noCredentials(t)
	store := s3double.New(t, s3double.Knobs{})
	cfg := doubleOf(store)
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	openBucket(t, cfg)
	if log.Len() > 0 {
		t.Errorf("with s3.Config.Endpoint the log is:\n%s", &log)
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", cfg.Endpoint)
	cfg.Endpoint = ""
	openBucket(t, cfg)
	if !strings.Contains(log.String(), "endpoint="+store.Endpoint()) {
		t.Errorf("the log has no endpoint=%s:\n%s", store.Endpoint(), &log)
	}
}
