package gcs

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
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
	"testing"
	"time"

	"cloud.google.com/go/storage"

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

// keyPEM returns a key in the form of a key file.
func keyPEM(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// newKey generates a key.
func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// refuseAll is a transport for tests that must not send requests.
var refuseAll = transport(func(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("unexpected request to %s", r.URL)
})

// openUnprobed opens a bucket without the probe.
func openUnprobed(t *testing.T, cfg Config) *bucket {
	t.Helper()
	if cfg.Bucket == "" {
		cfg.Bucket = "some.bucket_1"
	}
	b, err := open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // frees connections only
	return b
}

// TestSignLikeSDK compares URLs with those of the SDK's own signer, which signs
// with the current time.
func TestSignLikeSDK(t *testing.T) {
	key := newKey(t)
	b := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, key), Prefix: "a+b/c", Transport: refuseAll})
	opts := drivers.SignOptions{Expires: time.Hour, ContentType: "application/vnd.oci.image.layer.v1.tar+gzip", ContentDisposition: `attachment; filename="a b.txt"`}
	const name = "data/x!y_z-1:2+3.4"
	for range 10 { // a second may end between the two, but not each time
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
	t.Error("the SDK and SignGet never signed in the same second")
}

// parse parses a URL.
func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestSignLifetime checks from when and until when URLs are valid.
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
			t.Errorf("URL with the endpoint %s = %s\nwant %s", written, got, want)
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
			t.Errorf("SignGet for %v in a window of %v = %+v, %v, want %s in it", c.expires, c.window, s, err, want)
		}
	}
}

// managed is a signer with a key that Google rotates.
type managed struct{ keySigner }

func (managed) lifetime() time.Duration { return maxManagedLifetime }

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
		t.Errorf("endpoint() = %s, want https://store.example", got)
	}
}

// TestSignWithoutCredentials checks that nothing can sign without credentials.
func TestSignWithoutCredentials(t *testing.T) {
	b := openUnprobed(t, Config{Endpoint: "http://127.0.0.1:1", Transport: refuseAll})
	if s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SignGet without credentials = %+v, %v, want %v", s, err, errors.ErrUnsupported)
	}
}
