package auth

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
)

// keyServer is a transport to a server of keys.
type keyServer struct {
	mu      sync.Mutex
	keys    []byte // nil if it is down
	hangs   bool
	fetched int
}

func (s *keyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.fetched++
	keys, hangs := s.keys, s.hangs
	s.mu.Unlock()
	switch {
	case hangs:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case keys == nil:
		return nil, errors.New("down")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(keys))), Request: r}, nil
}

func (s *keyServer) set(keys []byte, hangs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.hangs = keys, hangs
}

func (s *keyServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetched
}

func startRemote(t *testing.T, s *keyServer, log io.Writer) *remoteKeys {
	t.Helper()
	k := &remoteKeys{name: "i", url: "https://i/keys", log: slog.New(slog.NewTextHandler(log, nil))}
	k.client = &http.Client{Transport: s, Timeout: fetchTimeout}
	k.start(t.Context())
	return k
}

// Keys are fetched at the start, and when a token names an unknown key, but not often.
func TestRemoteKeys(t *testing.T) {
	one, two := newKey(t, "one", jose.ES256), newKey(t, "two", jose.ES256)
	synctest.Test(t, func(t *testing.T) {
		var log ocihttptest.Buffer
		s := &keyServer{keys: jwks(t, one)}
		k := startRemote(t, s, &log)
		has := func(key keyPair) bool { return len(k.keys().find(key.id, jose.ES256)) == 1 }
		synctest.Wait()
		if !has(one) || s.count() != 1 {
			t.Fatalf("after the start: %v after %d requests, want one key after one", k.keys(), s.count())
		}
		s.set(jwks(t, two), false)
		if k.refresh(t.Context()); has(two) || s.count() != 1 {
			t.Error("the keys are fetched again at once")
		}
		time.Sleep(keysMinInterval)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { k.refresh(t.Context()) })
		}
		wg.Wait()
		if !has(two) || has(one) || s.count() != 2 {
			t.Errorf("100 unknown keys: %v after %d requests, want the new key after one more", k.keys(), s.count())
		}
	})
}

// While the URL is down, hangs, or has no keys, the last good set is kept.
func TestRemoteKeysAreKept(t *testing.T) {
	one, two := newKey(t, "one", jose.ES256), newKey(t, "two", jose.ES256)
	synctest.Test(t, func(t *testing.T) {
		var log ocihttptest.Buffer
		s := &keyServer{keys: jwks(t, two)}
		k := startRemote(t, s, &log)
		has := func(key keyPair) bool { return len(k.keys().find(key.id, jose.ES256)) == 1 }
		synctest.Wait()
		s.set(nil, false)
		time.Sleep(3 * keysInterval)
		if n := s.count(); !has(two) || n > 25 || n < 8 {
			t.Errorf("while the URL is down: %v after %d requests, want the last good set and some requests", k.keys(), n)
		}
		s.set([]byte(`{"keys":[]}`), false)
		time.Sleep(keysLastRetry)
		if !has(two) {
			t.Error("an empty set replaces the last good one")
		}
		s.set(nil, true)
		time.Sleep(keysMinInterval)
		before := time.Now()
		if k.refresh(t.Context()); time.Since(before) > keysPatience {
			t.Errorf("a token waits for %v, want at most %v", time.Since(before), keysPatience)
		}
		s.set(jwks(t, one), false)
		time.Sleep(keysLastRetry + fetchTimeout)
		if !has(one) {
			t.Error("the URL works again, but its keys are not known")
		}
		if !strings.Contains(log.String(), "the keys of an issuer of tokens cannot be read") {
			t.Errorf("the log has %s", log.String())
		}
	})
}

// Until keys are known, tokens are answered with 503. Passwords and anonymous callers
// are not affected.
func TestKeysAreNotKnown(t *testing.T) {
	k := newKey(t, "k", jose.ES256)
	cfg := tokenServer(t, jwks(t, k))
	cfg.Token.KeysFile = ""
	cfg.Token.KeysURL = "http://127.0.0.1:1/keys"
	cfg.Kind, cfg.Kinds = "", []string{Token, HTPasswd}
	cfg.HTPasswd.File = htpasswd(t, "alice")
	g := newRig(t, cfg)
	if w := g.want(503, "GET", "/v2/", token(k.sign(t, tokenClaims()))); w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	g.want(200, "GET", "/v2/", password("alice", "alice-pw"))
	g.want(401, "GET", "/v2/", nobody)
}

// provider is an issuer of OpenID Connect tokens.
type provider struct {
	*httptest.Server

	mu       sync.Mutex
	document string // the discovery document; ISSUER stands for its URL
	keys     []byte
}

func newProvider(t testing.TB, keys ...keyPair) *provider {
	t.Helper()
	p := &provider{document: `{"issuer":"ISSUER","jwks_uri":"ISSUER/keys"}`, keys: jwks(t, keys...)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_, _ = io.WriteString(w, strings.ReplaceAll(p.document, "ISSUER", p.URL))
		case "/keys":
			_, _ = w.Write(p.keys)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func TestDiscovery(t *testing.T) {
	p := newProvider(t, newKey(t, "k", jose.ES256))
	k := &remoteKeys{url: p.URL + "/.well-known/openid-configuration", issuer: p.URL, client: p.Client()}
	if set, err := k.fetch(t.Context()); err != nil || len(set) != 1 {
		t.Fatalf("fetch = %v, %v, want one key", set, err)
	}
	for document, want := range map[string]string{
		`{"issuer":"https://other","jwks_uri":"ISSUER/keys"}`:    "want",
		`{"issuer":"ISSUER","jwks_uri":"http://192.0.2.1/keys"}`: "want an https URL",
		`{"issuer":"ISSUER","jwks_uri":"file:///etc/passwd"}`:    "want an https URL",
		`{"issuer":"ISSUER"}`:                          "want an https URL",
		`{"issuer":"ISSUER","jwks_uri":"ISSUER/none"}`: "404",
		"x":                                "is not a discovery document",
		strings.Repeat(" ", maxDocument+1): "larger than 1 MiB",
	} {
		p.mu.Lock()
		p.document = document
		p.mu.Unlock()
		if _, err := k.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("fetch with the document %.60s: %v, want an error with %q", document, err, want)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for s, good := range map[string]bool{
		"https://a.example/x": true, "http://127.0.0.1:1/x": true, "http://[::1]/x": true, "http://localhost:1": true,
		"http://a.example": false, "http://localhost.example": false, "https://": false, "file:///x": false, "https://a:b@c.example": false, "": false,
	} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkURL(u); (err == nil) != good {
			t.Errorf("checkURL(%s) = %v, want an error: %t", s, err, !good)
		}
	}
}
