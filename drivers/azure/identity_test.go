package azure

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers"
)

// entra is a double of the services that issue tokens: Microsoft Entra ID and
// the metadata service of a machine.
type entra struct {
	status int                         // of answers about tokens
	check  func(form url.Values) error // checks the request for a token
}

const tenant = "00000000-0000-0000-0000-000000000001"

func (e *entra) RoundTrip(req *http.Request) (*http.Response, error) {
	const host = "https://login.microsoftonline.com/"
	switch path := req.URL.Path; {
	case strings.HasSuffix(path, "/discovery/instance"):
		return answerJSON(req, http.StatusOK, map[string]any{
			"tenant_discovery_endpoint": host + tenant + "/v2.0/.well-known/openid-configuration",
		})
	case strings.HasSuffix(path, "/openid-configuration"):
		return answerJSON(req, http.StatusOK, map[string]any{
			"issuer":                 host + tenant + "/v2.0",
			"token_endpoint":         host + tenant + "/oauth2/v2.0/token",
			"authorization_endpoint": host + tenant + "/oauth2/v2.0/authorize",
		})
	case strings.HasSuffix(path, "/token"):
		return e.issue(req)
	default:
		return nil, fmt.Errorf("unexpected request to %s", req.URL)
	}
}

// issue answers a request for a token.
func (e *entra) issue(req *http.Request) (*http.Response, error) {
	isMetadata := req.URL.Host == "169.254.169.254"
	form := req.URL.Query()
	if isMetadata && req.Header.Get("Metadata") == "" { // it only checks whether there is a metadata service
		return answerJSON(req, http.StatusBadRequest, map[string]any{})
	}
	if !isMetadata {
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		if form, err = url.ParseQuery(string(data)); err != nil {
			return nil, err
		}
	}
	if err := e.check(form); err != nil {
		return nil, err
	}
	if e.status != http.StatusOK {
		return answerJSON(req, e.status, map[string]any{
			"error": "invalid_client", "error_description": "AADSTS7000222: The provided client secret keys are expired.",
		})
	}
	body := map[string]any{"access_token": "token", "token_type": "Bearer", "expires_in": 3600}
	if isMetadata {
		body["expires_in"], body["resource"] = "3600", form.Get("resource")
		body["expires_on"] = fmt.Sprint(time.Now().Add(time.Hour).Unix())
	}
	return answerJSON(req, http.StatusOK, body)
}

func answerJSON(req *http.Request, status int, body map[string]any) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	resp := answer(req, status, "", http.Header{"Content-Type": {"application/json"}})
	resp.Body = io.NopCloser(strings.NewReader(string(data)))
	return resp, nil
}

// wantForm returns a check that each of these values is part of the request's.
func wantForm(want url.Values) func(url.Values) error {
	return func(form url.Values) error {
		for name := range want {
			if !strings.Contains(form.Get(name), want.Get(name)) {
				return fmt.Errorf("request for a token with %q, want %s with %q", form, name, want.Get(name))
			}
		}
		return nil
	}
}

// TestEnvironment has an identity from the environment. While the bucket is open,
// tokens are refused or unavailable, and then issued again.
func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of Kubernetes"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		environment map[string]string
		check       func(url.Values) error
	}{
		"service principal": {
			map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": "berth", "AZURE_CLIENT_SECRET": "secret"},
			wantForm(url.Values{"client_id": {"berth"}, "client_secret": {"secret"}, "scope": {"https://storage.azure.com/.default"}}),
		},
		"workload identity": {
			map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": "berth", "AZURE_FEDERATED_TOKEN_FILE": file},
			wantForm(url.Values{"client_id": {"berth"}, "client_assertion": {"of Kubernetes"}, "scope": {"https://storage.azure.com/.default"}}),
		},
		"managed identity": {
			map[string]string{"AZURE_CLIENT_ID": "berth"},
			wantForm(url.Values{"client_id": {"berth"}, "resource": {"https://storage.azure.com"}}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			unsetIdentity(t)
			for variable, value := range test.environment {
				t.Setenv(variable, value)
			}
			synctest.Test(t, func(t *testing.T) { readWithout(t, &entra{status: http.StatusOK, check: test.check}) })
		})
	}
}

// unsetIdentity unsets the variables of an identity until the end of the test.
func unsetIdentity(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		variable, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(variable, "AZURE_") && !strings.HasPrefix(variable, "IDENTITY_") {
			continue
		}
		t.Setenv(variable, "") // restores it
		if err := os.Unsetenv(variable); err != nil {
			t.Fatal(err)
		}
	}
}

// readWithout reads with a token, and again when the token has expired and the
// service issues no other.
func readWithout(t *testing.T, e *entra) {
	cfg := fakeConfig(func(req *http.Request) (*http.Response, error) {
		if got := req.Header.Get("Authorization"); got != "Bearer token" {
			t.Errorf("Authorization = %q, want the token", got)
		}
		return answer(req, http.StatusOK, "", http.Header{"Content-Length": {"7"}}), nil
	})
	cfg.SAS, cfg.tokens = "", e
	b, err := newBucket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for status, want := range map[int]error{
		http.StatusUnauthorized: drivers.ErrRefused, http.StatusServiceUnavailable: drivers.ErrBusy, http.StatusTooManyRequests: drivers.ErrBusy,
	} {
		e.status = http.StatusOK
		if _, err := b.Stat(t.Context(), "k"); err != nil {
			t.Fatalf("Stat with a token = %v", err)
		}
		e.status = status
		if _, err := b.Stat(t.Context(), "k"); err != nil {
			t.Errorf("Stat with a token that is valid for an hour = %v", err)
		}
		time.Sleep(2 * time.Hour)
		_, err := b.Stat(t.Context(), "k")
		wantError(t, fmt.Sprintf("Stat with %d instead of a token", status), err, want, "provides no identity that works (see AZURE_CLIENT_ID and related variables)")
		if err != nil && !strings.Contains(err.Error(), "AADSTS7000222") {
			t.Errorf("Stat = %v, want AADSTS7000222 in it, the reason of the token service", err)
		}
	}
}
