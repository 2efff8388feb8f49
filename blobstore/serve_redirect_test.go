package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/redirect"
)

// openSigning returns a repository in a store that signs URLs with sign.
func openSigning(t *testing.T, cfg Config, sign func(key string, opts drivers.SignOptions) (drivers.Signed, error)) *Repository {
	t.Helper()
	return repository(t, openStore(t, signer{openMemoryView(t, &memory.Store{}), sign}, cfg), "a")
}

// signer is a bucket that signs URLs with sign.
type signer struct {
	drivers.Bucket
	sign func(key string, opts drivers.SignOptions) (drivers.Signed, error)
}

func (s signer) SignGet(_ context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	return s.sign(key, opts)
}

// openRedirecting returns a repository whose store signs URLs for ten minutes in
// windows of five, with an inline blob and one with data, which also has an alias.
func openRedirecting(t *testing.T) (r *reads, inline, data, alias digest.Digest) {
	t.Helper()
	bucket := drivertest.Signing(openMemoryView(t, &memory.Store{}))
	policy, err := redirect.New(redirect.Config{Expiry: 10 * time.Minute, Window: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	r = &reads{Repository: repository(t, openStore(t, bucket, Config{Redirect: policy}), "a"), bucket: bucket}
	p := randomBytes(1, 100_000)
	for _, p := range [][]byte{[]byte("inline"), p} {
		if _, err := r.Put(t.Context(), "application/x-test", p); err != nil {
			t.Fatal(err)
		}
	}
	inline, data, alias = digest.FromString("inline"), digest.FromBytes(p), digest.SHA512.FromBytes(p)
	if err := r.SetDescriptor(t.Context(), alias, Descriptor{Digest: data}); err != nil {
		t.Fatal(err)
	}
	return r, inline, data, alias
}

// redirectedTo checks the headers of a redirect and returns its URL.
func redirectedTo(t *testing.T, w *httptest.ResponseRecorder, d digest.Digest) *url.URL {
	t.Helper()
	h := w.Header()
	u, err := url.Parse(h.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusTemporaryRedirect || w.Body.Len() != 0 || u.Host != "signed.example" ||
		h.Get("Docker-Content-Digest") != d.String() || h.Get("Etag") != "" || h.Get("Content-Type") != "" {
		t.Fatalf("GET = %d, %v, want a redirect to signed.example without the headers of the target", w.Code, h)
	}
	if q := u.Query(); q.Get("type") != "application/x-test" || q.Get("disposition") != "attachment" {
		t.Fatalf("Location %s, want it to set the type and the disposition", u)
	}
	return u
}

// A GET is redirected to a URL that the store signs. A cache may keep the redirect
// for as long as the URL works, and the URL is the same within a window.
func TestRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, d, _ := openRedirecting(t)
		var urls []string
		for range 20 {
			w, err := r.serve(t, "GET", d, "Range", "bytes=1-2")
			if err != nil {
				t.Fatal(err)
			}
			u := redirectedTo(t, w, d)
			expires, err := strconv.ParseInt(u.Query().Get("expires"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			var seconds int64
			cacheControl := w.Header().Get("Cache-Control")
			if _, err := fmt.Sscanf(cacheControl, "private, max-age=%d", &seconds); err != nil {
				t.Fatalf("Cache-Control %q: %v", cacheControl, err)
			}
			left, age := time.Until(time.Unix(expires, 0)), time.Duration(seconds)*time.Second
			if age > left || left-age > time.Second || left < 10*time.Minute {
				t.Errorf("Cache-Control %q for a URL that works for %v", cacheControl, left)
			}
			if len(urls) == 0 || urls[len(urls)-1] != u.String() {
				urls = append(urls, u.String())
			}
			time.Sleep(30 * time.Second)
		}
		if len(urls) > 3 {
			t.Errorf("GET returned %d URLs in ten minutes, want one in each window of five", len(urls))
		}
	})
}

// A GET by an alias is redirected too. HEAD and inline blobs are answered
// directly.
func TestRedirectByKind(t *testing.T) {
	r, inline, d, alias := openRedirecting(t)
	w, err := r.serve(t, "GET", alias)
	if err != nil || w.Code != http.StatusTemporaryRedirect || w.Header().Get("Docker-Content-Digest") != alias.String() {
		t.Errorf("GET by sha512 = %d, %v, %v, want a redirect", w.Code, err, w.Header())
	}
	w, err = r.serve(t, "HEAD", d)
	if err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Length") != "100000" || w.Header().Get("Location") != "" {
		t.Errorf("HEAD = %d, %v, %v, want a direct answer", w.Code, err, w.Header())
	}
	w, err = r.serve(t, "GET", inline)
	if err != nil || w.Code != http.StatusOK || w.Body.String() != "inline" {
		t.Errorf("GET of an inline blob = %d, %v, %q, want a direct answer", w.Code, err, w.Body)
	}
}

// A 304 does not extend the life of a redirect in a cache.
func TestNotModifiedRedirect(t *testing.T) {
	r, _, d, _ := openRedirecting(t)
	for _, inm := range []string{strconv.Quote(d.String()), `"x", W/` + strconv.Quote(d.String()), "*"} {
		w, err := r.serve(t, "GET", d, "If-None-Match", inm)
		if h := w.Header(); err != nil || w.Code != http.StatusNotModified || h.Get("Location") != "" || h.Get("Cache-Control") != "private, no-cache" ||
			h.Get("Docker-Content-Digest") != d.String() || h.Get("Etag") != strconv.Quote(d.String()) {
			t.Errorf("GET with If-None-Match %s = %d, %v, %v, want 304 with no-cache", inm, w.Code, err, h)
		}
	}
}

// The bytes are served directly if the store cannot sign, if signing fails, or if
// the signed URL has already expired.
func TestSignerFails(t *testing.T) {
	p := randomBytes(1, 100_000)
	for what, c := range map[string]struct {
		sign func(string, drivers.SignOptions) (drivers.Signed, error)
		log  string // expected in the log
	}{
		"unsupported": {func(string, drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{}, fmt.Errorf("no: %w", errors.ErrUnsupported)
		}, ""},
		"fails": {func(string, drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{}, errors.New("no key")
		}, "no key"},
		"busy": {func(string, drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{}, drivers.ErrBusy
		}, "busy"},
		"expired": {func(key string, _ drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{URL: "https://signed.example/" + key, Expires: time.Now().Add(-time.Second)}, nil
		}, "expired"},
	} {
		var log bytes.Buffer
		r := &reads{Repository: openSigning(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, c.sign)}
		if _, err := r.Put(t.Context(), "", p); err != nil {
			t.Fatal(err)
		}
		w, err := r.serve(t, "GET", digest.FromBytes(p), "Range", "bytes=10-19")
		if err != nil || w.Code != http.StatusPartialContent || !bytes.Equal(w.Body.Bytes(), p[10:20]) || w.Header().Get("Location") != "" {
			t.Errorf("%s: GET = %d, %v, %v, want 206 with the bytes", what, w.Code, err, w.Header())
		}
		if !strings.Contains(log.String(), c.log) || c.log == "" && log.Len() > 0 {
			t.Errorf("%s: log = %q, want it to contain %q", what, log.String(), c.log)
		}
	}
}

// An unverified blob is served from its own key, by a URL that the store signs or
// directly, and never by a CDN, which only serves bytes that berth has hashed.
func TestUnverifiedIsServed(t *testing.T) {
	policy, err := redirect.New(redirect.Config{
		CDN:   map[string]redirect.CDN{"edge": {Kind: "plain", BaseURL: "https://cdn.example/"}},
		Rules: []redirect.Rule{{Target: "cdn:edge"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := randomBytes(1, 100_000)
	for _, c := range []struct {
		what, key, host string
		state           state
	}{
		{"live", "", "cdn.example", live},
		{"adopted", "docker/registry/v2/blobs/data", "signed.example", unverified},
		{"adopted from a registry with root data", "data/docker/registry/v2/blobs/data", "signed.example", unverified},
	} {
		bucket := openMemoryView(t, &memory.Store{})
		r := &reads{Repository: repository(t, openStore(t, drivertest.Signing(bucket), Config{Redirect: policy}), "a"), bucket: bucket}
		d := r.put(t, p)
		if c.key != "" {
			if _, err := bucket.Create(t.Context(), c.key, drivers.NewBody(p)); err != nil {
				t.Fatal(err)
			}
			r.rewriteLink(t, d, func(l *record) { l.State, l.Data = c.state, c.key })
		}
		w, err := r.serve(t, "GET", d)
		if err != nil || w.Code != http.StatusTemporaryRedirect || !strings.HasPrefix(w.Header().Get("Location"), "https://"+c.host+"/"+c.key) {
			t.Errorf("%s: GET = %d, %v, Location %q, want a redirect to %s", c.what, w.Code, err, w.Header().Get("Location"), c.host)
		}
		direct := &reads{Repository: repository(t, openStore(t, bucket, Config{Redirect: policy}), "a")}
		if c.state == unverified {
			w, err := direct.serve(t, "GET", d)
			if err != nil || w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), p) {
				t.Errorf("%s: GET without a signer = %d, %v, want the bytes", c.what, w.Code, err)
			}
		}
	}
}

// A client that disconnects while the store signs a URL is not a failure of the
// signer, and no bytes are sent.
func TestDisconnectWhileSigning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := repository(t, openStore(t, silentSigner{openMemoryView(t, &memory.Store{})}, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}), "a")
		desc, err := r.Put(t.Context(), "", randomBytes(1, 100_000))
		if err != nil {
			t.Fatal(err)
		}
		ctx, disconnect := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, disconnect)
		w := httptest.NewRecorder()
		err = r.ServeBlob(ctx, w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), desc.Digest)
		if !errors.Is(err, context.Canceled) || w.Body.Len() > 0 || log.Len() > 0 {
			t.Errorf("GET by a client that disconnects = %v, %d bytes, log %q, want context.Canceled and nothing else", err, w.Body.Len(), log.String())
		}
	})
}

// silentSigner is a bucket that never answers a request to sign.
type silentSigner struct{ drivers.Bucket }

func (silentSigner) SignGet(ctx context.Context, _ string, _ drivers.SignOptions) (drivers.Signed, error) {
	<-ctx.Done()
	return drivers.Signed{}, ctx.Err()
}
