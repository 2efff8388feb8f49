package s3

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
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
			t.Errorf("uploadsPrefix at %q with AWS_ENDPOINT_URL_S3=%q = %q, want %q", test.endpoint, test.environment, got, test.want)
		}
	}
}
