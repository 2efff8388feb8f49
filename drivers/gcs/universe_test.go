package gcs

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

// TestUniverse reaches every service of a sovereign cloud under its own domain.
func TestUniverse(t *testing.T) {
	const universe = "cloud.example"
	path := writeCredentials(t, newKey(t))
	cfg := Config{CredentialsFile: path, UniverseDomain: universe, SignAs: "signer@test.iam.gserviceaccount.com"}
	hosts := make(map[string]int)
	cfg.Transport = transport(func(r *http.Request) (*http.Response, error) {
		hosts[r.URL.Host]++
		if r.Body != nil {
			readAll(r)
		}
		return answer(r, http.StatusForbidden, "no")
	})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]string
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	file["universe_domain"] = universe
	if data, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	b := openUnprobed(t, cfg)
	_, create := b.Create(t.Context(), "k", drivers.NewBody([]byte("text")))
	_, stat := b.Stat(t.Context(), "k")
	_, _, read := b.Open(t.Context(), "k", 0, -1)
	_, sign := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Second})
	for _, err := range []error{create, stat, read, sign} {
		if err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("error of a denied request = %v, want 403 in it", err)
		}
	}
	if hosts["storage."+universe] != 3 || hosts["iamcredentials."+universe] != 1 || len(hosts) != 2 {
		t.Errorf("requests by host = %v, want 3 to storage.%s and 1 to iamcredentials.%[2]s", hosts, universe)
	}
}
