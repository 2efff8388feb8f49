package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

// tokenService is a double of all services that issue tokens: the token
// endpoint of service accounts, the Security Token Service, IAM and the
// metadata server.
type tokenService struct {
	*httptest.Server
	refuse   atomic.Int32  // the status of all answers about tokens, if not 0
	expires  atomic.Int64  // in seconds
	requests atomic.Int32  // for tokens
	hang     chan struct{} // if not nil, answers about tokens wait until it is closed

	// The metadata server's answer about the account, and its status.
	email  atomic.Value
	emails atomic.Int32
}

func newTokenService(t *testing.T) *tokenService {
	t.Helper()
	s := new(tokenService)
	s.expires.Store(3600)
	s.email.Store(testAccount)
	s.emails.Store(http.StatusOK)
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Metadata-Flavor", "Google")
	if strings.HasSuffix(r.URL.Path, "/email") {
		w.WriteHeader(int(s.emails.Load()))
		fmt.Fprint(w, s.email.Load())
		return
	}
	s.requests.Add(1)
	if s.hang != nil {
		<-s.hang
	}
	w.Header().Set("Content-Type", "application/json")
	if status := s.refuse.Load(); status != 0 {
		w.WriteHeader(int(status))
		fmt.Fprintln(w, `{"error":"invalid_grant",`+"\n"+`"error_description":"check your iat and exp values"}`)
		return
	}
	seconds := s.expires.Load()
	answer := map[string]any{"access_token": "token of " + r.URL.Path, "token_type": "Bearer", "expires_in": seconds}
	if strings.HasSuffix(r.URL.Path, ":generateAccessToken") {
		answer = map[string]any{
			"accessToken": fmt.Sprintf("token by %q", r.Header.Get("Authorization")),
			"expireTime":  time.Now().Add(time.Duration(seconds) * time.Second).Format(time.RFC3339),
		}
	}
	_ = json.NewEncoder(w).Encode(answer) // fails if the client has left
}

// serviceAccount returns JSON credentials with the key of a service account.
func (s *tokenService) serviceAccount(t *testing.T) map[string]any {
	return map[string]any{
		"type": "service_account", "client_email": testAccount, "private_key": keyPEM(newKey(t)), "private_key_id": "1", "token_uri": s.URL + "/token",
	}
}

// workloadIdentity returns JSON credentials of a workload identity federation.
func (s *tokenService) workloadIdentity(t *testing.T) map[string]any {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of Kubernetes"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": s.URL + "/sts", "credential_source": map[string]any{"file": file},
	}
}

// impersonationURL returns the URL at which the service issues tokens of another
// account.
func (s *tokenService) impersonationURL() string {
	return s.URL + "/v1/projects/-/serviceAccounts/" + testAccount + ":generateAccessToken"
}

// with returns a copy of the credentials with one field added or replaced.
func with(credentials map[string]any, field string, value any) map[string]any {
	credentials = maps.Clone(credentials)
	credentials[field] = value
	return credentials
}

// writeJSON writes value to a file, and returns its path.
func writeJSON(t *testing.T, path string, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// wantToken fails the test unless requests carry the token, and URLs are signed
// by the account, or are not signed if there is none.
func wantToken(t *testing.T, cfg Config, token, account string) {
	t.Helper()
	var got []string
	cfg.Transport = transport(func(r *http.Request) (*http.Response, error) {
		got = append(got, r.Header.Get("Authorization"))
		if strings.HasSuffix(r.URL.Path, "/serviceAccounts/"+testAccount+":signBlob") {
			return answer(r, http.StatusOK, map[string]any{"signedBlob": "c2lnbmF0dXJl"})
		}
		return answer(r, http.StatusOK, map[string]any{"generation": "7", "size": "1", "updated": "2026-01-02T03:04:05Z"})
	})
	b := openUnprobed(t, cfg)
	if _, err := b.Stat(t.Context(), "k"); err != nil {
		t.Errorf("Stat = %v", err)
	}
	signed, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
	switch {
	case account == "":
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "gcs.Config.SignAs") {
			t.Errorf("SignGet = %+v, %v, want %v with gcs.Config.SignAs in it", signed, err, errors.ErrUnsupported)
		}
	case err != nil:
		t.Errorf("SignGet = %v", err)
	case !strings.HasPrefix(parse(t, signed.URL).Query().Get("X-Goog-Credential"), account+"/"):
		t.Errorf("SignGet = %s, want a URL signed by %s", signed.URL, account)
	}
	for _, authorization := range got {
		if authorization != "Bearer "+token {
			t.Errorf("Authorization = %q, want the token %q", authorization, token)
		}
	}
}

// wantNoToken sends a read and a write, which need a token. It fails the test
// unless their errors wrap the sentinel, and name the field and the reason in one
// line. After repair there must be no error.
func wantNoToken(t *testing.T, cfg Config, sentinel error, reason string, repair func()) {
	t.Helper()
	cfg.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			readAll(r)
		}
		return answer(r, http.StatusOK, map[string]any{"generation": "7", "size": "1", "updated": "2026-01-02T03:04:05Z"})
	})
	b := openUnprobed(t, cfg)
	both := func() [2]error {
		var errs [2]error
		var wg sync.WaitGroup
		wg.Go(func() { _, errs[0] = b.Stat(t.Context(), "k") })
		wg.Go(func() { _, errs[1] = b.Create(t.Context(), "k", drivers.NewBody([]byte("x"))) })
		wg.Wait()
		return errs
	}
	for _, err := range both() {
		if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), sentinel.Error()+": gcs.Config.CredentialsFile: ") ||
			!strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error without a token = %v, want %v with gcs.Config.CredentialsFile and %q in one line", err, sentinel, reason)
		}
	}
	repair()
	for _, err := range both() {
		if err != nil {
			t.Errorf("error with a token = %v", err)
		}
	}
}

// TestCredentialsFile has a file with credentials of each type.
func TestCredentialsFile(t *testing.T) {
	t.Parallel()
	s := newTokenService(t)
	for name, test := range map[string]struct {
		file           map[string]any
		signAs         string
		token, account string
	}{
		"service account":        {s.serviceAccount(t), "", "token of /token", testAccount},
		"workload identity":      {s.workloadIdentity(t), "", "token of /sts", ""},
		"workload identity, as":  {s.workloadIdentity(t), testAccount, "token of /sts", testAccount},
		"workload identity, for": {with(s.workloadIdentity(t), "service_account_impersonation_url", s.impersonationURL()), "", `token by "Bearer token of /sts"`, testAccount},
		"impersonation": {map[string]any{
			"type": "impersonated_service_account", "service_account_impersonation_url": s.impersonationURL(), "source_credentials": s.serviceAccount(t),
		}, "", `token by "Bearer token of /token"`, testAccount},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantToken(t, Config{CredentialsFile: writeJSON(t, filepath.Join(t.TempDir(), "c.json"), test.file), SignAs: test.signAs}, test.token, test.account)
		})
	}
}

// TestDefaultCredentials has credentials in each place where the SDK looks.
func TestDefaultCredentials(t *testing.T) {
	s := newTokenService(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	writeJSON(t, filepath.Join(home, ".config", "gcloud", "application_default_credentials.json"), s.workloadIdentity(t))
	wantToken(t, Config{}, "token of /sts", "")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", writeJSON(t, filepath.Join(home, "key.json"), s.serviceAccount(t)))
	wantToken(t, Config{}, "token of /token", testAccount)
}

// TestNoToken has a service that refuses tokens and then issues them again.
func TestNoToken(t *testing.T) {
	t.Parallel()
	type credentials func(*tokenService, *testing.T) map[string]any
	impersonating := func(s *tokenService, t *testing.T) map[string]any {
		sts := newTokenService(t)
		return with(sts.workloadIdentity(t), "service_account_impersonation_url", s.impersonationURL())
	}
	for name, of := range map[string]credentials{
		"service account":                  (*tokenService).serviceAccount,
		"workload identity":                (*tokenService).workloadIdentity,
		"workload identity, impersonating": impersonating,
	} {
		for status, class := range map[int]error{
			http.StatusBadRequest:          drivers.ErrRefused,
			http.StatusForbidden:           drivers.ErrRefused,
			http.StatusTooManyRequests:     drivers.ErrBusy,
			http.StatusInternalServerError: drivers.ErrBusy,
			http.StatusServiceUnavailable:  drivers.ErrBusy,
		} {
			t.Run(fmt.Sprint(name, ", ", status), func(t *testing.T) {
				t.Parallel()
				s := newTokenService(t)
				s.refuse.Store(int32(status))
				cfg := Config{CredentialsFile: writeJSON(t, filepath.Join(t.TempDir(), "c.json"), of(s, t))}
				wantNoToken(t, cfg, class, "iat and exp", func() { s.refuse.Store(0) })
			})
		}
	}
	t.Run("connection refused", func(t *testing.T) {
		t.Parallel()
		s := newTokenService(t)
		c := s.workloadIdentity(t)
		c["token_url"] = "http://127.0.0.1:1/sts"
		cfg := Config{Bucket: "b", CredentialsFile: writeJSON(t, filepath.Join(t.TempDir(), "c.json"), c), Transport: refuseAll}
		if _, err := openUnprobed(t, cfg).Stat(t.Context(), "k"); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("Stat = %v, want %v", err, drivers.ErrBusy)
		}
		if _, err := Open(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "gcs.Config.Endpoint") || !strings.Contains(err.Error(), "gcs.Config.CredentialsFile") {
			t.Errorf("Open = %v, want gcs.Config.CredentialsFile in it", err)
		}
	})
	t.Run("no token of Kubernetes", func(t *testing.T) {
		t.Parallel()
		s := newTokenService(t)
		missing := filepath.Join(t.TempDir(), "late")
		cfg := Config{CredentialsFile: writeJSON(t, filepath.Join(t.TempDir(), "c.json"), with(s.workloadIdentity(t), "credential_source", map[string]any{"file": missing}))}
		wantNoToken(t, cfg, drivers.ErrRefused, missing, func() {
			if err := os.WriteFile(missing, []byte("token"), 0o600); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestKeyDeleted has a key that is refused when its token has expired, as if it was
// deleted or the clock was wrong.
func TestKeyDeleted(t *testing.T) {
	t.Parallel()
	s := newTokenService(t)
	s.expires.Store(1)
	cfg := Config{
		CredentialsFile: writeJSON(t, filepath.Join(t.TempDir(), "c.json"), s.serviceAccount(t)),
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusOK, map[string]any{"generation": "7", "size": "1", "updated": "2026-01-02T03:04:05Z"})
		}),
	}
	b := openUnprobed(t, cfg)
	if _, err := b.Stat(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	s.refuse.Store(http.StatusBadRequest)
	time.Sleep(1100 * time.Millisecond)
	_, err := b.Stat(t.Context(), "k")
	if !errors.Is(err, drivers.ErrRefused) || !strings.Contains(err.Error(), "gcs.Config.CredentialsFile: ") || !strings.Contains(err.Error(), "clock") {
		t.Errorf("Stat with a deleted key = %v, want %v with gcs.Config.CredentialsFile and \"clock\" in it", err, drivers.ErrRefused)
	}
	s.refuse.Store(0)
	if _, err := b.Stat(t.Context(), "k"); err != nil {
		t.Errorf("Stat when the key is accepted again = %v", err)
	}
}

// TestTokenHangs has many callers that wait for a token. They share one request, and
// stop waiting when their contexts end.
func TestTokenHangs(t *testing.T) {
	t.Parallel()
	s := newTokenService(t)
	s.hang = make(chan struct{})
	b := openUnprobed(t, Config{
		CredentialsFile: writeJSON(t, filepath.Join(t.TempDir(), "c.json"), s.serviceAccount(t)),
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusOK, map[string]any{"generation": "7", "size": "1", "updated": "2026-01-02T03:04:05Z"})
		}),
	})
	start := time.Now()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := b.Stat(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, drivers.ErrRefused) {
				t.Errorf("Stat without a token = %v, want %v", err, context.DeadlineExceeded)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("callers with 100ms left stopped waiting after %v", took)
	}
	close(s.hang)
	if _, err := b.Stat(t.Context(), "k"); err != nil || s.requests.Load() != 1 {
		t.Errorf("Stat with the token = %v, after %d requests for one, want 1", err, s.requests.Load())
	}
}

// TestMetadataServer runs in a separate process, because the SDK checks for a
// metadata server once in each process.
func TestMetadataServer(t *testing.T) {
	const inside = "BERTH_TEST_METADATA_SERVER"
	if os.Getenv(inside) == "" {
		t.Parallel()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestMetadataServer$")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	s := newTokenService(t)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(s.URL, "http://"))
	const token = "token of /computeMetadata/v1/instance/service-accounts/default/token"

	wantToken(t, Config{}, token, testAccount)
	s.emails.Store(http.StatusNotFound) // an instance without an account
	wantToken(t, Config{}, token, "")
	s.emails.Store(http.StatusOK)
	s.email.Store("project.svc.id.goog") // GKE, with no account behind the workload identity
	wantToken(t, Config{}, token, "")
	wantToken(t, Config{SignAs: testAccount}, token, testAccount)
	s.emails.Store(http.StatusServiceUnavailable)
	if b, err := open(t.Context(), Config{Bucket: "b", Transport: refuseAll}); err == nil || !strings.Contains(err.Error(), "gcs.Config.SignAs") {
		t.Errorf("open while the metadata server is down = %v, %v, want gcs.Config.SignAs in it", b, err)
	}
	s.emails.Store(http.StatusOK)

	for status, class := range map[int]error{
		http.StatusNotFound: drivers.ErrRefused, http.StatusForbidden: drivers.ErrRefused, http.StatusServiceUnavailable: drivers.ErrBusy,
	} {
		s.refuse.Store(int32(status))
		wantNoToken(t, Config{}, class, "Application Default Credentials", func() { s.refuse.Store(0) })
	}
}
