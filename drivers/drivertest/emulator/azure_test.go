package emulator

import (
	"net/http"
	"testing"
)

// TestAzure requests a blob without credentials from each server, which must
// respond and refuse.
func TestAzure(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *Azure{"http": Azurite, "https": AzuriteOAuth} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			resp, err := (&http.Client{Transport: s.Transport}).Get(s.Endpoint + "/" + s.Container(t) + "/blob")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusNotFound {
				t.Errorf("GET without credentials = %s, want 403 or 404", resp.Status)
			}
		})
	}
}
