package system

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// misconfiguration is an environment in which berth does not start.
type misconfiguration struct {
	name string
	env  []string // in addition to an environment that works
	want []string // texts of the error: the key, and what to do
}

// TestMisconfiguredS3 starts berth with settings that cannot work. berth exits with an
// error that names the setting and contains no secret. An HTTP server gives the
// responses that versitygw does not give.
func TestMisconfiguredS3(t *testing.T) {
	t.Parallel()
	s := emulator.VersityGW(t)
	refusing := func(status int, code string, header http.Header) string {
		return refusingServer(t, status, header, "application/xml", "<Error><Code>"+code+"</Code><Message>no</Message></Error>")
	}
	testMisconfigurations(t, append(s3Env(t, s), "BERTH_STORAGE_S3_RETRIES=0"), []string{s.SecretAccessKey, "session-secret"}, []misconfiguration{
		{"bucket", []string{"BERTH_STORAGE_S3_BUCKET=nowhere"}, []string{`storage.s3.bucket: bucket "nowhere" does not exist`, "check the name"}},
		{"region", []string{"BERTH_STORAGE_S3_REGION=eu-north-1"}, []string{"storage.s3.region", "is not in eu-north-1"}},
		{"key id", []string{"BERTH_STORAGE_S3_ACCESS_KEY_ID=nobody"}, []string{"storage.s3.access_key_id"}},
		{"secret", []string{"BERTH_STORAGE_S3_SECRET_ACCESS_KEY=session-secret"}, []string{"storage.s3.secret_access_key"}},
		{"down", []string{"BERTH_STORAGE_S3_ENDPOINT=http://127.0.0.1:1"}, []string{"storage.s3.endpoint: the store does not answer"}},
		{"other region", []string{"BERTH_STORAGE_S3_ENDPOINT=" + refusing(http.StatusMovedPermanently, "PermanentRedirect", http.Header{"X-Amz-Bucket-Region": {"eu-west-1"}})},
			[]string{"storage.s3.region", "is in eu-west-1, not " + s.Region}},
		{"denied", []string{"BERTH_STORAGE_S3_ENDPOINT=" + refusing(http.StatusForbidden, "AccessDenied", nil)}, []string{"is denied", "s3:PutObject"}},
		{"expired", []string{"BERTH_STORAGE_S3_SESSION_TOKEN=session-secret", "BERTH_STORAGE_S3_ENDPOINT=" + refusing(http.StatusBadRequest, "ExpiredToken", nil)},
			[]string{"storage.s3.session_token", "expired"}},
		{"clock", []string{"BERTH_STORAGE_S3_ENDPOINT=" + refusing(http.StatusForbidden, "RequestTimeTooSkewed", longAgo())}, []string{"the clock of this machine is wrong", "NTP"}},
	})
}

func TestMisconfiguredGCS(t *testing.T) {
	t.Parallel()
	s := emulator.FakeGCS(t)
	refuses := func(status int, message string, header http.Header) string {
		return "BERTH_STORAGE_GCS_ENDPOINT=" + refusingServer(t, status, header, "application/json", fmt.Sprintf(`{"error":{"code":%d,"message":%q}}`, status, message))
	}
	late := credentialsWith(t, s, refusingServer(t, http.StatusBadRequest, longAgo(), "application/json",
		`{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."}`))
	testMisconfigurations(t, gcsEnv(t, s), []string{"PRIVATE KEY"}, []misconfiguration{
		{"bucket", []string{"BERTH_STORAGE_GCS_BUCKET=nowhere"}, []string{`storage.gcs.bucket: bucket "nowhere" does not exist`, "check the name"}},
		{"no credentials", []string{"BERTH_STORAGE_GCS_CREDENTIALS_FILE="}, []string{"storage.gcs.credentials_file"}},
		{"no file", []string{"BERTH_STORAGE_GCS_CREDENTIALS_FILE=nowhere.json"}, []string{"storage.gcs.credentials_file", "nowhere.json: no such file"}},
		{"down", []string{"BERTH_STORAGE_GCS_ENDPOINT=http://127.0.0.1:1"}, []string{"storage.gcs.endpoint", "cannot be reached"}},
		{"denied", []string{refuses(http.StatusForbidden, "no storage.objects.create access", nil)}, []string{"storage.gcs.credentials_file", "roles/storage.objectUser"}},
		{"expired", []string{refuses(http.StatusUnauthorized, "Invalid Credentials", nil)}, []string{"storage.gcs.credentials_file", "not accepted"}},
		{"clock", []string{"BERTH_STORAGE_GCS_CREDENTIALS_FILE=" + late}, []string{"storage.gcs.credentials_file", "clock"}},
	})
}

func TestMisconfiguredAzure(t *testing.T) {
	t.Parallel()
	s := emulator.Azurite(t)
	env := azureEnv(t, s)
	refusing := func(status int, code string, header http.Header) string {
		if header == nil {
			header = make(http.Header)
		}
		header.Set("X-Ms-Error-Code", code)
		return "BERTH_STORAGE_AZURE_ENDPOINT=" + refusingServer(t, status, header, "application/xml", "<Error><Code>"+code+"</Code></Error>") + "/" + s.Account
	}
	testMisconfigurations(t, env, []string{s.SharedKey}, []misconfiguration{
		{"container", []string{"BERTH_STORAGE_AZURE_CONTAINER=nowhere"}, []string{"storage.azure.container", "check the name"}},
		{"account", []string{"BERTH_STORAGE_AZURE_ACCOUNT=nobody"}, []string{"storage.azure.shared_key", `account "nobody"`}},
		{"key", []string{"BERTH_STORAGE_AZURE_SHARED_KEY=AAAA" + s.SharedKey[4:]}, []string{"storage.azure.shared_key", "check it"}},
		{"down", []string{"BERTH_STORAGE_AZURE_ENDPOINT=http://127.0.0.1:1/" + s.Account}, []string{"storage.azure.endpoint", "127.0.0.1:1"}},
		{"denied", []string{refusing(http.StatusForbidden, "AuthorizationPermissionMismatch", nil)}, []string{"storage.azure.container: access is denied", "racwdl"}},
		{"clock", []string{refusing(http.StatusForbidden, "AuthenticationFailed", longAgo())}, []string{"storage.azure.shared_key", "clock"}},
	})
}

func testMisconfigurations(t *testing.T, good, secrets []string, misconfigurations []misconfiguration) {
	for _, m := range misconfigurations {
		p, err := start(t.TempDir(), append(slices.Clip(good), m.env...))
		if err == nil {
			p.kill()
			t.Errorf("%s: berth serve = nil, want an error", m.name)
			continue
		}
		for _, want := range append(m.want, "exit status 1") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: berth serve = %v, want an error that contains %q", m.name, err, want)
			}
		}
		for _, secret := range secrets {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: berth serve = %v, want an error without secrets", m.name, err)
			}
		}
	}
}

// refusingServer starts a server that gives the same response to each request, and
// returns its URL.
func refusingServer(t *testing.T, status int, header http.Header, contentType, body string) string {
	t.Helper()
	s := httptest.NewServer(refusal{status, header, contentType, body})
	t.Cleanup(s.Close)
	return s.URL
}

// refusal is the response of a store that refuses requests.
type refusal struct {
	status      int
	header      http.Header // in addition to Content-Type
	contentType string
	body        string
}

func (r refusal) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	maps.Copy(w.Header(), r.header)
	w.Header().Set("Content-Type", r.contentType)
	w.WriteHeader(r.status)
	_, _ = w.Write([]byte(r.body)) // berth may be gone; the response to a HEAD has no body
}

// longAgo returns the header of a store with a wrong clock.
func longAgo() http.Header {
	return http.Header{"Date": {time.Now().Add(-5 * time.Hour).UTC().Format(http.TimeFormat)}}
}

// credentialsWith returns a file with the server's credentials, for tokens from this
// URL.
func credentialsWith(t *testing.T, s *emulator.GCS, tokens string) string {
	t.Helper()
	data, err := os.ReadFile(s.CredentialsFile)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), s.Endpoint+"/token", tokens, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
