package auth

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/redirect/match"
)

// rig is a registry with authentication, on an empty store.
type rig struct {
	t       testing.TB
	auth    *Auth
	handler http.Handler // with authentication
	open    http.Handler // without
	log     *ocihttptest.Buffer

	mu      sync.Mutex
	users   []string // that were recorded for the log
	clients int      // that have sent a request
}

// signs is the name of a service whose store signs URLs.
const signs = "signs"

const testSeed = "0123456789abcdef0123456789abcdef"

// newRig returns a registry with this configuration.
func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	g := &rig{t: t, log: new(ocihttptest.Buffer)}
	if cfg.TokenLifetime == 0 {
		cfg.TokenLifetime = 5 * time.Minute
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(stop)
	var err error
	g.auth, err = New(ctx, cfg, Environment{
		Log:        slog.New(slog.NewTextHandler(g.log, nil)),
		SigningKey: []byte(testSeed),
		ClientAddr: match.Proxies{}.Client,
		BaseURL:    match.Proxies{}.Origin,
		SetUser: func(_ context.Context, user string) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.users = append(g.users, user)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := memory.Open(t.Context(), memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Service == signs {
		bucket = drivertest.Signing(bucket)
	}
	store, err := blobstore.Open(t.Context(), bucket, blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if g.open, err = ocihttp.New(store, ocihttp.Config{}); err != nil {
		t.Fatal(err)
	}
	api, err := ocihttp.New(store, ocihttp.Config{Authorizer: g.auth})
	if err != nil {
		t.Fatal(err)
	}
	g.handler = g.auth.Handler(api)
	return g
}

// credentials sets the header of a request.
type credentials func(r *http.Request)

func nobody(*http.Request) {}

func password(user, pass string) credentials {
	return func(r *http.Request) { r.SetBasicAuth(user, pass) }
}

func token(s string) credentials {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s) }
}

// send sends a request, from a client at 192.0.2.1.
func (g *rig) send(method, target, body string, c credentials) *httptest.ResponseRecorder {
	g.t.Helper()
	return g.sendFrom("192.0.2.1", method, target, body, c)
}

func (g *rig) sendFrom(client, method, target, body string, c credentials) *httptest.ResponseRecorder {
	g.t.Helper()
	r := httptest.NewRequestWithContext(g.t.Context(), method, target, strings.NewReader(body))
	r.Host = "registry.example"
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(client), 1234).String()
	c(r)
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	return w
}

// want sends a request, and reports a status other than this one.
func (g *rig) want(status int, method, target string, c credentials) *httptest.ResponseRecorder {
	g.t.Helper()
	w := g.send(method, target, "", c)
	if w.Code != status {
		g.t.Errorf("%s %s = %d %v %s, want %d", method, target, w.Code, w.Header(), w.Body, status)
	}
	return w
}

// login requests a token for these scopes.
func (g *rig) login(c credentials, scopes ...string) credentials {
	g.t.Helper()
	target := TokenPath + "?service=berth"
	for _, s := range scopes {
		target += "&scope=" + s
	}
	w := g.send("GET", target, "", c)
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		IssuedAt    string `json:"issued_at"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK || answer.Token == "" || answer.Token != answer.AccessToken || answer.ExpiresIn <= 0 {
		g.t.Fatalf("GET %s = %d %s, %v, want a token", target, w.Code, w.Body, err)
	}
	if _, err := time.Parse(time.RFC3339, answer.IssuedAt); err != nil {
		g.t.Error(err)
	}
	return token(answer.Token)
}

// push stores an empty index with the tag v1, without authentication.
func (g *rig) push(repository string) {
	g.t.Helper()
	r := httptest.NewRequestWithContext(g.t.Context(), "PUT", "/v2/"+repository+"/manifests/v1", strings.NewReader(emptyIndex))
	r.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	w := httptest.NewRecorder()
	g.open.ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		g.t.Fatalf("PUT = %d %s", w.Code, w.Body)
	}
}

// pushBlob stores the blob "hello", without authentication.
func (g *rig) pushBlob(repository string) {
	g.t.Helper()
	w := httptest.NewRecorder()
	g.open.ServeHTTP(w, httptest.NewRequestWithContext(g.t.Context(), "POST", "/v2/"+repository+"/blobs/uploads/?digest="+helloDigest, strings.NewReader("hello")))
	if w.Code != http.StatusCreated {
		g.t.Fatalf("POST = %d %s", w.Code, w.Body)
	}
}

const (
	emptyIndex  = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	helloDigest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
)

// htpasswd returns a file with these users, whose passwords are their names and "-pw".
func htpasswd(t testing.TB, names ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	writeUsers(t, file, names...)
	return file
}

func writeUsers(t testing.TB, file string, names ...string) {
	t.Helper()
	var text strings.Builder
	for _, name := range names {
		text.WriteString(name + ":" + hashOf(t, name+"-pw") + "\n")
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func hashOf(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}
