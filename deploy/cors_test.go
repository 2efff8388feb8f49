package deploy_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"google.golang.org/api/storage/v1"
)

// TestCORS checks that pages of every origin, "null" included, may read the URL of
// a redirect and ranges of it, and may do nothing else.
func TestCORS(t *testing.T) {
	t.Parallel()
	var s3 types.CORSConfiguration
	read(t, "s3/cors.json", &s3)
	var gcs []*storage.BucketCors
	read(t, "gcs/cors.json", &gcs)
	if len(s3.CORSRules) != 1 || len(gcs) != 1 {
		t.Fatalf("S3 has %d rules and GCS %d, want 1 each", len(s3.CORSRules), len(gcs))
	}
	for _, rule := range []struct {
		file                      string
		origins, methods, exposed []string
	}{
		{"s3/cors.json", s3.CORSRules[0].AllowedOrigins, s3.CORSRules[0].AllowedMethods, s3.CORSRules[0].ExposeHeaders},
		{"gcs/cors.json", gcs[0].Origin, gcs[0].Method, gcs[0].ResponseHeader},
	} {
		if !slices.Equal(rule.origins, []string{"*"}) || !slices.Equal(rule.methods, []string{"GET", "HEAD"}) {
			t.Errorf("%s allows %q from %q, want GET and HEAD from every origin", rule.file, rule.methods, rule.origins)
		}
		for _, name := range []string{"Accept-Ranges", "Content-Length", "Content-Range", "ETag"} {
			if !slices.Contains(rule.exposed, name) {
				t.Errorf("%s exposes the headers %q, want %s among them", rule.file, rule.exposed, name)
			}
		}
	}
	// Cloud Storage has one list for the headers of responses and requests.
	for _, name := range []string{"Range", "If-Range", "If-Match", "If-None-Match"} {
		if !slices.Contains(gcs[0].ResponseHeader, name) || !slices.Contains(s3.CORSRules[0].AllowedHeaders, "*") {
			t.Errorf("pages may not send %s", name)
		}
	}
}
