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
	status, body := http.StatusOK, map[string]any{}
	const host = "https://login.microsoftonline.com/"
	switch path := req.URL.Path; {
	case strings.HasSuffix(path, "/discovery/instance"):
		body["tenant_discovery_endpoint"] = host + tenant + "/v2.0/.well-known/openid-configuration"
	case strings.HasSuffix(path, "/openid-configuration"):
		body["issuer"] = host + tenant + "/v2.0"
		body["token_endpoint"] = host + tenant + "/oauth2/v2.0/token"
		body["authorization_endpoint"] = host + tenant + "/oauth2/v2.0/authorize"
	case strings.HasSuffix(path, "/token"):
		var form url.Values
		if req.URL.Host == "169.254.169.254" {
			form = req.URL.Query()
			if req.Header.Get("Metadata") == "" { // a request that only checks for a metadata service
				status = http.StatusBadRequest
				break
			}
		} else {
			data, err := io.ReadAll(req.Body)
			if err == nil {
				form, err = url.ParseQuery(string(data))
			}
			if err != nil {
				return nil, err
			}
		}
		if err := e.check(form); err != nil {
			return nil, err
		}
		if status = e.status; status == http.StatusOK {
			ends := time.Now().Add(time.Hour)
			body["access_token"], body["token_type"], body["expires_in"] = "token", "Bearer", 3600
			if req.URL.Host == "169.254.169.254" {
				body["expires_in"], body["expires_on"], body["resource"] = "3600", fmt.Sprint(ends.Unix()), form.Get("resource")
			}
			break
		}
		body["error"], body["error_description"] = "invalid_client", "AADSTS7000222: The provided client secret keys are expired."
	default:
		return nil, fmt.Errorf("a request to %s, which should not be made", req.URL)
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	resp := answer(req, status, "", http.Header{"Content-Type": {"application/json"}})
	resp.Body = io.NopCloser(strings.NewReader(string(data)))
	return resp, nil
}

// TestEnvironment has an identity from the environment. In service its tokens
// are refused or unavailable, and then issued again.
func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of Kubernetes"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants := func(want url.Values) func(url.Values) error {
		return func(form url.Values) error {
			for name := range want {
				if !strings.Contains(form.Get(name), want.Get(name)) {
					return fmt.Errorf("a token is asked for with %q, want %s with %q", form, name, want.Get(name))
				}
			}
			return nil
		}
	}
	for name, test := range map[string]struct {
		environment map[string]string
		check       func(url.Values) error
	}{
		"service principal": {
			map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": "berth", "AZURE_CLIENT_SECRET": "secret"},
			wants(url.Values{"client_id": {"berth"}, "client_secret": {"secret"}, "scope": {"https://storage.azure.com/.default"}}),
		},
		"workload identity": {
			map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": "berth", "AZURE_FEDERATED_TOKEN_FILE": file},
			wants(url.Values{"client_id": {"berth"}, "client_assertion": {"of Kubernetes"}, "scope": {"https://storage.azure.com/.default"}}),
		},
		"managed identity": {
			map[string]string{"AZURE_CLIENT_ID": "berth"},
			wants(url.Values{"client_id": {"berth"}, "resource": {"https://storage.azure.com"}}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, entry := range os.Environ() {
				if variable, _, _ := strings.Cut(entry, "="); strings.HasPrefix(variable, "AZURE_") || strings.HasPrefix(variable, "IDENTITY_") {
					t.Setenv(variable, "") // has it restored
					if err := os.Unsetenv(variable); err != nil {
						t.Fatal(err)
					}
				}
			}
			for variable, value := range test.environment {
				t.Setenv(variable, value)
			}
			synctest.Test(t, func(t *testing.T) {
				e := &entra{status: http.StatusOK, check: test.check}
				cfg := fakeConfig(func(req *http.Request) (*http.Response, error) {
					if got := req.Header.Get("Authorization"); got != "Bearer token" {
						t.Errorf("a request carries %q, want the token", got)
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
						t.Errorf("Stat with a token that is good for an hour = %v", err)
					}
					time.Sleep(2 * time.Hour)
					_, err := b.Stat(t.Context(), "k")
					wantError(t, fmt.Sprintf("%d instead of a token", status), err, want, "provides no identity that works (see AZURE_CLIENT_ID and related variables)")
					if err != nil && !strings.Contains(err.Error(), "AADSTS7000222") {
						t.Errorf("Stat = %v, want the reason why there is no token in it", err)
					}
				}
			})
		})
	}
}
