package emulator

import (
	"net/http"
	"testing"
)

// TestS3 requests an object without credentials from each server, which must
// respond and refuse.
func TestS3(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *S3{"versitygw": VersityGW, "versitygw alone": VersityGWAlone, "MinIO": MinIO} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			resp, err := http.Get(s.Endpoint + "/" + s.Bucket(t) + "/key")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("GET without credentials = %s, want 403", resp.Status)
			}
		})
	}
}
