package emulator

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// GCS is fake-gcs-server behind a proxy that enforces rules that the server
// does not check: see strictGCS.
type GCS struct {
	Endpoint        string // http://127.0.0.1:port
	CredentialsFile string // the key of a service account with all permissions

	strict *strictGCS
}

const gcsAccount = "berth@test.iam.gserviceaccount.com"

// FakeGCS starts fake-gcs-server, which keeps objects in memory, and the proxy.
func FakeGCS(t testing.TB) *GCS {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, addr := start(t, func(_, addr string) command {
		host, port, _ := strings.Cut(addr, ":")
		return command{
			name: "fake-gcs-server",
			args: []string{
				"-scheme", "http", "-host", host, "-port", port, "-backend", "memory",
				"-public-host", addr, "-external-url", "http://" + addr, "-log-level", "error",
			},
			ready: "http://" + addr + "/_internal/healthcheck",
		}
	})
	strict := newStrictGCS("http://"+addr, gcsAccount, &key.PublicKey)
	server := httptest.NewServer(strict)
	t.Cleanup(server.Close)
	return &GCS{
		Endpoint:        server.URL,
		CredentialsFile: credentialsFile(t, key, server.URL+"/token"),
		strict:          strict,
	}
}

// credentialsFile returns the path of a service account's key file in Google's
// format.
func credentialsFile(t testing.TB, key *rsa.PrivateKey, tokenURL string) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]string{
		"type":           "service_account",
		"project_id":     "test",
		"private_key_id": "1",
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email":   gcsAccount,
		"client_id":      "1",
		"token_uri":      tokenURL,
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Bucket creates an empty bucket and returns its name.
func (g *GCS) Bucket(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text())
	resp, err := g.strict.client.Post(g.strict.upstream+"/storage/v1/b?project=test", "application/json", strings.NewReader(fmt.Sprintf(`{"name":%q}`, name)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("fake-gcs-server: create bucket: %s", resp.Status)
	}
	g.strict.addBucket(name)
	return name
}
