package gcs

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/storage"
	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"

	"github.com/berthhq/berth/drivers"
)

const testAccount = "writer@test.iam.gserviceaccount.com"

// writeCredentials creates the key file of a service account. Its token server
// issues a token for any request.
func writeCredentials(t *testing.T, key *rsa.PrivateKey) string {
	t.Helper()
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"test","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(tokens.Close)
	data, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": testAccount, "private_key": keyPEM(key), "private_key_id": "1", "token_uri": tokens.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func keyPEM(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// refuseAll is a store that must get no request.
var refuseAll = transport(func(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("a request to %s, which should not be made", r.URL)
})

func openUnprobed(t *testing.T, cfg Config) *bucket {
	t.Helper()
	if cfg.Bucket == "" {
		cfg.Bucket = "some.bucket_1"
	}
	b, err := open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // it holds nothing but idle connections
	return b
}

// TestSignLikeSDK compares URLs with those of the SDK's own signer, which signs
// with the current time.
func TestSignLikeSDK(t *testing.T) {
	key := newKey(t)
	b := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, key), Prefix: "a+b/c", Transport: refuseAll})
	opts := drivers.SignOptions{Expires: time.Hour, ContentType: "application/vnd.oci.image.layer.v1.tar+gzip", ContentDisposition: `attachment; filename="a b.txt"`}
	const name = "data/x!y_z-1:2+3.4"
	for range 10 { // a second may end in between, but not every time
		theirs, err := storage.SignedURL(b.store.cfg.Bucket, b.store.name(name), &storage.SignedURLOptions{
			GoogleAccessID: testAccount, PrivateKey: []byte(keyPEM(key)), Method: http.MethodGet, Scheme: storage.SigningSchemeV4,
			Expires: time.Now().Add(time.Hour + 1500*time.Millisecond),
			QueryParameters: url.Values{
				"response-content-type": {opts.ContentType}, "response-content-disposition": {opts.ContentDisposition},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ours, err := b.SignGet(t.Context(), name, opts)
		if err != nil {
			t.Fatal(err)
		}
		got, want := parse(t, ours.URL), parse(t, theirs)
		if got.Query().Get("X-Goog-Date") != want.Query().Get("X-Goog-Date") || got.Query().Get("X-Goog-Expires") != want.Query().Get("X-Goog-Expires") {
			continue
		}
		if got.Host != want.Host || got.EscapedPath() != want.EscapedPath() || got.Query().Encode() != want.Query().Encode() {
			t.Errorf("SignGet = %s\nwant %s", got, want)
		}
		return
	}
	t.Error("the SDK never signs in the same second")
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestSignLifetime(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 20, 30, 400, time.UTC)
	key := newKey(t)
	byKey := keySigner{testAccount, key}
	for _, c := range []struct {
		signer          signer
		expires, window time.Duration
		from, until     time.Time
	}{
		{byKey, time.Minute, 0, now.Truncate(time.Second), now.Truncate(time.Second).Add(61 * time.Second)},
		{byKey, 20 * time.Minute, time.Hour, now.Truncate(time.Hour), now.Truncate(time.Hour).Add(80 * time.Minute)},
		{byKey, 100 * time.Hour, 68 * time.Hour, now.Truncate(68 * time.Hour), now.Truncate(68 * time.Hour).Add(7 * 24 * time.Hour)},
		{managed{byKey}, 7 * time.Hour, 5 * time.Hour, now.Truncate(5 * time.Hour), now.Truncate(5 * time.Hour).Add(12 * time.Hour)},
	} {
		b := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, key), Transport: refuseAll, PublicEndpoint: "https://blobs.example:8443"})
		b.signer = c.signer
		s, err := b.signGet(t.Context(), "data/k", drivers.SignOptions{Expires: c.expires, Window: c.window}, now)
		if err != nil {
			t.Fatal(err)
		}
		u := parse(t, s.URL)
		if got := u.Query().Get("X-Goog-Date"); !s.Expires.Equal(c.until) || got != c.from.Format(dateTime) {
			t.Errorf("signGet for %v in a window of %v = from %s until %v, want from %v until %v", c.expires, c.window, got, s.Expires, c.from, c.until)
		}
		if u.Host != "blobs.example:8443" || u.Path != "/"+b.store.cfg.Bucket+"/data/k" {
			t.Errorf("signGet = %s, want a URL of the public endpoint", s.URL)
		}
	}
}

// TestSignHost checks that the signed host has the form in which clients send
// it.
func TestSignHost(t *testing.T) {
	file := writeCredentials(t, newKey(t))
	now := time.Now()
	sign := func(endpoint string) string {
		b := openUnprobed(t, Config{CredentialsFile: file, Transport: refuseAll, PublicEndpoint: endpoint})
		s, err := b.signGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Hour}, now)
		if err != nil {
			t.Fatal(err)
		}
		return s.URL
	}
	for written, host := range map[string]string{
		"https://Blobs.Example:443/": "https://blobs.example",
		"https://blobs.example:":     "https://blobs.example",
		"http://blobs.example:80":    "http://blobs.example",
		"https://blobs.example:8443": "https://blobs.example:8443",
		"https://[2001:DB8::1]:443":  "https://[2001:db8::1]",
	} {
		if got, want := sign(written), sign(host); got != want || !strings.HasPrefix(got, host+"/") {
			t.Errorf("a URL at %s is %s\nwant %s", written, got, want)
		}
	}
}

// TestSignForTooLong checks that no URL expires before the requested time.
func TestSignForTooLong(t *testing.T) {
	key := newKey(t)
	b := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, key), Transport: refuseAll})
	for _, c := range []struct {
		signer          signer
		expires, window time.Duration
	}{
		{keySigner{testAccount, key}, 7 * 24 * time.Hour, time.Minute},
		{managed{keySigner{testAccount, key}}, 11 * time.Hour, 2 * time.Hour},
	} {
		b.signer = c.signer
		s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: c.expires, Window: c.window})
		if want := c.signer.lifetime().String(); err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("SignGet for %v in a window of %v = %+v, %v, want an error that names %s", c.expires, c.window, s, err, want)
		}
	}
}

// managed is a key that Google rotates.
type managed struct{ keySigner }

func (managed) lifetime() time.Duration { return maxManagedLifetime }

// TestSignByIAM has IAM sign, once for each URL within a window.
func TestSignByIAM(t *testing.T) {
	const signer = "signer@test.iam.gserviceaccount.com"
	key := newKey(t)
	var asked atomic.Int32
	denied := false
	iam := transport(func(r *http.Request) (*http.Response, error) {
		asked.Add(1)
		if denied {
			return answer(r, http.StatusForbidden, "Permission 'iam.serviceAccounts.signBlob' denied")
		}
		if want := "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + signer + ":signBlob"; !strings.HasPrefix(r.URL.String(), want) ||
			r.Header.Get("Authorization") != "Bearer test" {
			return nil, fmt.Errorf("request to %s with %q", r.URL, r.Header.Get("Authorization"))
		}
		var req struct {
			Payload []byte `json:"payload"`
		}
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(req.Payload)
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		if err != nil {
			return nil, err
		}
		return answer(r, http.StatusOK, map[string]string{"signedBlob": base64.StdEncoding.EncodeToString(signature)})
	})
	b := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, newKey(t)), SignAs: signer, Transport: iam})
	now := time.Date(2026, 11, 24, 10, 20, 30, 0, time.UTC)
	opts := drivers.SignOptions{Expires: 20 * time.Minute, Window: time.Hour}
	byKey := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, key), Transport: refuseAll})
	byKey.signer = keySigner{signer, key}
	want, err := byKey.signGet(t.Context(), "data/k", opts, now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		got, err := b.signGet(t.Context(), "data/k", opts, now.Add(time.Duration(i)*10*time.Minute))
		if err != nil || got != want {
			t.Errorf("signGet = %+v, %v, want %+v", got, err, want)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("IAM got %d requests for one URL, want 1", n)
	}
	denied = true
	if _, err := b.signGet(t.Context(), "data/l", opts, now); err == nil || !strings.Contains(err.Error(), "iam.serviceAccounts.signBlob") || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("signGet, denied, = %v, want an error that names the permission", err)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("IAM got %d requests for two URLs, want 2", n)
	}
}

// TestSignByIAMAtOnce has many callers of one URL; the first one leaves.
func TestSignByIAMAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		status, within := http.StatusOK, time.Second
		service, err := iamcredentials.NewService(t.Context(), option.WithHTTPClient(&http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			select {
			case <-time.After(within):
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
			return answer(r, status, map[string]string{"signedBlob": base64.StdEncoding.EncodeToString([]byte("signature"))})
		})}))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := lru.New[string, []byte](10)
		if err != nil {
			t.Fatal(err)
		}
		s := &iamSigner{email: testAccount, service: service, kept: kept}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.sign(ctx, []byte("a")); !errors.Is(err, context.Canceled) {
				t.Errorf("sign, when the client goes away, = %v, want %v", err, context.Canceled)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if got, err := s.sign(t.Context(), []byte("a")); err != nil || string(got) != "signature" {
					t.Errorf("sign = %q, %v", got, err)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("IAM got %d requests for one URL, want 1", n)
		}

		status = http.StatusServiceUnavailable
		if got, err := s.sign(t.Context(), []byte("b")); err == nil {
			t.Errorf("sign, with IAM down, = %q, want an error", got)
		}
		before, began := asked.Load(), time.Now()
		if _, err := s.sign(t.Context(), []byte("c")); err == nil || asked.Load() != before || time.Since(began) > 0 {
			t.Errorf("sign just after a failure = %v, with %d requests, want an error at once", err, asked.Load()-before)
		}
		if got, err := s.sign(t.Context(), []byte("a")); err != nil {
			t.Errorf("sign of what was signed before a failure = %q, %v", got, err)
		}
		status = http.StatusOK
		time.Sleep(iamPause)
		if got, err := s.sign(t.Context(), []byte("c")); err != nil || string(got) != "signature" {
			t.Errorf("sign once IAM is back = %q, %v", got, err)
		}

		within = 24 * time.Hour
		began = time.Now()
		if got, err := s.sign(t.Context(), []byte("d")); err == nil || time.Since(began) > iamTimeout {
			t.Errorf("sign, with IAM silent, = %q, %v after %v, want an error within %v", got, err, time.Since(began), iamTimeout)
		}
	})
}

// TestSignRefusedByIAM has IAM refuse to sign. Its 404 is about an account, not
// about the key that was to be signed for.
func TestSignRefusedByIAM(t *testing.T) {
	for status, want := range map[int]struct {
		class error
		says  string
	}{
		http.StatusForbidden:          {drivers.ErrRefused, "gcs.Config.SignAs: grant iam.serviceAccounts.signBlob on the service account " + testAccount + " itself"},
		http.StatusNotFound:           {drivers.ErrRefused, "gcs.Config.SignAs: grant iam.serviceAccounts.signBlob on the service account " + testAccount + " itself"},
		http.StatusUnauthorized:       {drivers.ErrRefused, "signBlob as " + testAccount},
		http.StatusTooManyRequests:    {drivers.ErrBusy, "signBlob as " + testAccount},
		http.StatusServiceUnavailable: {drivers.ErrBusy, "signBlob as " + testAccount},
	} {
		synctest.Test(t, func(t *testing.T) {
			service, err := iamcredentials.NewService(t.Context(), option.WithHTTPClient(&http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
				return answer(r, status, "no")
			})}))
			if err != nil {
				t.Fatal(err)
			}
			kept, err := lru.New[string, []byte](10)
			if err != nil {
				t.Fatal(err)
			}
			b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: refuseAll})
			b.signer = &iamSigner{email: testAccount, service: service, kept: kept}
			s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
			if !errors.Is(err, want.class) || sentinel(err) != nil && !errors.Is(sentinel(err), want.class) || !strings.Contains(err.Error(), want.says) {
				t.Errorf("SignGet with %d from IAM = %+v, %v, want %v with %q", status, s, err, want.class, want.says)
			}
		})
	}
}

// TestSignReasons has refusals of IAM that have another reason than a role.
func TestSignReasons(t *testing.T) {
	for reason, want := range map[string]string{
		"SERVICE_DISABLED":                "gcloud services enable iamcredentials.googleapis.com --project 123",
		"ACCESS_TOKEN_SCOPE_INSUFFICIENT": "access scope cloud-platform",
		"IAM_PERMISSION_DENIED":           "grant iam.serviceAccounts.signBlob",
	} {
		service, err := iamcredentials.NewService(t.Context(), option.WithHTTPClient(&http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusForbidden, infoError(http.StatusForbidden, reason, "iamcredentials.googleapis.com"))
		})}))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := lru.New[string, []byte](10)
		if err != nil {
			t.Fatal(err)
		}
		b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: refuseAll})
		b.signer = &iamSigner{email: testAccount, service: service, kept: kept}
		_, err = b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
		if !errors.Is(err, drivers.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("SignGet with %s from IAM = %v, want %v with %q", reason, err, drivers.ErrRefused, want)
		}
		if reason != "IAM_PERMISSION_DENIED" && strings.Contains(err.Error(), "signBlob on") {
			t.Errorf("SignGet with %s from IAM = %v, which names a permission that is not missing", reason, err)
		}
	}
}

// TestSignSlashes checks that slashes at the end of a configured URL are not
// part of an object's name.
func TestSignSlashes(t *testing.T) {
	b := openUnprobed(t, Config{
		CredentialsFile: writeCredentials(t, newKey(t)), Endpoint: "https://store.example//", PublicEndpoint: "https://public.example//", Transport: refuseAll,
	})
	s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
	if want := "https://public.example/" + b.store.cfg.Bucket + "/data/k?"; err != nil || !strings.HasPrefix(s.URL, want) {
		t.Errorf("SignGet = %+v, %v, want %s…", s, err, want)
	}
	if got := b.store.cfg.endpoint(); got != "https://store.example" {
		t.Errorf("the endpoint is %s, want it without slashes", got)
	}
}

func TestSignByNobody(t *testing.T) {
	b := openUnprobed(t, Config{Endpoint: "http://127.0.0.1:1", Transport: refuseAll})
	if s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SignGet without credentials = %+v, %v, want %v", s, err, errors.ErrUnsupported)
	}
}
