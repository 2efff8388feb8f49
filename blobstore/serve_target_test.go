package blobstore

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/redirect"
)

// If-Match is evaluated for GET and HEAD if the bytes are served directly, and a
// response with 412 is not cached. If a GET is redirected, the tag may be that of
// the target, unless it is the tag of this service.
func TestIfMatch(t *testing.T) {
	p := randomBytes(1, 100_000)
	d := digest.FromBytes(p)
	etag := strconv.Quote(d.String())
	bucket := openMemoryView(t, &memory.Store{})
	direct := &reads{Repository: repository(t, openStore(t, bucket, Config{}), "a"), bucket: bucket}
	direct.put(t, p)
	signing := &reads{Repository: repository(t, openStore(t, drivertest.Signing(bucket), Config{}), "a")}
	const ok, failed, redirected, same = http.StatusOK, http.StatusPreconditionFailed, http.StatusTemporaryRedirect, http.StatusNotModified
	for _, c := range []struct {
		ifMatch, ifNoneMatch string
		status               int // if the bytes are served directly
		get, head            int // from a store that signs
	}{
		{etag, "", ok, ok, ok},
		{"*", "", ok, redirected, ok},
		{`"x", ` + etag, "", ok, ok, ok},
		{`"x"`, "", failed, redirected, ok},
		{"W/" + etag, "", failed, redirected, ok},
		{`"x"`, etag, failed, redirected, ok},
		{etag, etag, same, same, same},
		{etag, `"x"`, ok, ok, ok},
	} {
		header := []string{"If-Match", c.ifMatch}
		if c.ifNoneMatch != "" {
			header = append(header, "If-None-Match", c.ifNoneMatch)
		}
		for _, method := range []string{"GET", "HEAD"} {
			w, err := direct.serve(t, method, d, header...)
			if err != nil || w.Code != c.status {
				t.Errorf("%s with %q = %d, %v, want %d", method, header, w.Code, err, c.status)
			}
			want := map[int]string{ok: immutable, same: "private, no-cache", failed: "no-store"}[c.status]
			if got := w.Header().Get("Cache-Control"); got != want {
				t.Errorf("%s with %q = %d, Cache-Control %q, want %q", method, header, w.Code, got, want)
			}
		}
		for method, status := range map[string]int{"GET": c.get, "HEAD": c.head} {
			if w, err := signing.serve(t, method, d, header...); err != nil || w.Code != status {
				t.Errorf("%s with %q from a store that signs = %d, %v, want %d", method, header, w.Code, err, status)
			}
		}
	}
	// If signing fails, there is no target that could have the tag.
	failing := &reads{Repository: repository(t, openStore(t, signer{bucket, func(string, drivers.SignOptions) (drivers.Signed, error) {
		return drivers.Signed{}, errors.New("no key")
	}}, Config{}), "a")}
	if w, err := failing.serve(t, "GET", d, "If-Match", `"x"`); err != nil || w.Code != failed {
		t.Errorf("GET with If-Match from a store that fails to sign = %d, %v, want %d", w.Code, err, failed)
	}
}

// targetTest is a redirect policy and what it redirects.
type targetTest struct {
	config    redirect.Config
	agent     string
	signs     bool // the store signs URLs
	redirects bool // requests for the whole blob or one range
	any       bool // requests for several ranges, or for the last bytes
}

func targetTests() map[string]targetTest {
	cdn := func(kind string, keys ...redirect.Key) redirect.Config {
		return redirect.Config{Default: "cdn:edge", CDN: map[string]redirect.CDN{"edge": {Kind: kind, BaseURL: "https://cdn.example", Keys: keys}}}
	}
	ranges := redirect.Config{Default: "cdn:edge", CDN: map[string]redirect.CDN{"edge": {Kind: "plain", BaseURL: "https://cdn.example", Ranges: true}}}
	toBuildKit := redirect.Config{Default: "direct", Rules: []redirect.Rule{{UserAgent: "buildkit", Target: "presign"}}}
	return map[string]targetTest{
		"presign":                           {redirect.Config{}, "", true, true, false},
		"presign without a signing store":   {redirect.Config{}, "", false, false, false},
		"direct":                            {redirect.Config{Default: "direct"}, "", true, false, false},
		"plain":                             {cdn("plain"), "", false, true, false},
		"akamai":                            {cdn("akamai", redirect.Key{Value: "00ff"}), "", true, true, false},
		"frontdoor":                         {cdn("frontdoor"), "", true, true, false},
		"frontdoor without a signing store": {cdn("frontdoor"), "", false, false, false},
		"nginx":                             {cdn("nginx", redirect.Key{Value: "k"}), "", false, true, false},
		"CDN with ranges":                   {ranges, "", false, true, true},
		"rule for another UserAgent":        {toBuildKit, "curl", true, false, false},
		"rule for this UserAgent":           {toBuildKit, "buildkit", true, true, false},
	}
}

// targetClient reads a blob of 100,000 bytes through the policy of a targetTest.
type targetClient struct {
	*reads

	digest digest.Digest
	agent  string
}

func (c targetClient) send(t *testing.T, method string, header ...string) (*httptest.ResponseRecorder, error) {
	return c.serve(t, method, c.digest, append(header, "User-Agent", c.agent)...)
}

// redirected tests that a GET is redirected, by a response without an ETag.
func (c targetClient) redirected(t *testing.T, header ...string) {
	t.Helper()
	w, err := c.send(t, "GET", header...)
	if err != nil || w.Code != http.StatusTemporaryRedirect || w.Header().Get("Etag") != "" {
		t.Errorf("GET with %q = %d, %v, ETag %q, want 307 without one", header, w.Code, err, w.Header().Get("Etag"))
	}
}

// direct tests that a GET is answered directly: with 206 and these bytes, or with
// 200 if want is empty.
func (c targetClient) direct(t *testing.T, want string, header ...string) {
	t.Helper()
	status := http.StatusOK
	if want != "" {
		status = http.StatusPartialContent
	}
	w, err := c.send(t, "GET", header...)
	if tag := strconv.Quote(c.digest.String()); err != nil || w.Code != status || w.Header().Get("Etag") != tag {
		t.Errorf("GET with %q = %d, %v, ETag %q, want %d, %q", header, w.Code, err, w.Header().Get("Etag"), status, tag)
	}
	if want != "" && string(blobBytes(t, w)) != want {
		t.Errorf("GET with %q = %d bytes, want %d", header, w.Body.Len(), len(want))
	}
}

// get tests that a GET is redirected, or answered directly with these bytes.
func (c targetClient) get(t *testing.T, want string, redirected bool, header ...string) {
	t.Helper()
	if redirected {
		c.redirected(t, header...)
	} else {
		c.direct(t, want, header...)
	}
}

// An entity tag that a client received is never refused later: responses that may
// come from another target have none, and a request with the tag of this service
// is answered directly. So are ranges that the target may not support.
func TestTargets(t *testing.T) {
	p := randomBytes(1, 100_000)
	etag := strconv.Quote(digest.FromBytes(p).String())
	for name, test := range targetTests() {
		t.Run(name, func(t *testing.T) {
			policy, err := redirect.New(test.config)
			if err != nil {
				t.Fatal(err)
			}
			bucket := openMemoryView(t, &memory.Store{})
			if test.signs {
				bucket = drivertest.Signing(bucket)
			}
			r := &reads{Repository: repository(t, openStore(t, bucket, Config{Redirect: policy}), "a"), bucket: bucket}
			c := targetClient{r, r.put(t, p), test.agent}
			for _, header := range [][]string{nil, {"Range", "bytes=7-9"}} {
				want := etag
				if test.redirects {
					want = ""
				}
				if w, err := c.send(t, "HEAD", header...); err != nil || w.Code != http.StatusOK || w.Header().Get("Etag") != want {
					t.Errorf("HEAD with %q = %d, %v, ETag %q, want 200, %q", header, w.Code, err, w.Header().Get("Etag"), want)
				}
			}
			one, some := string(p[7:10]), string(p[50_000:50_010])+string(p[7:10])
			c.get(t, "", test.redirects)
			c.get(t, one, test.redirects, "Range", "bytes=7-9")
			c.get(t, some, test.any, "Range", "bytes=50000-50009,7-9")
			c.get(t, string(p[99_997:]), test.any, "Range", "bytes=-3")
			c.get(t, one, test.any, "Range", "bytes=7-9,200000-")
			c.get(t, "", test.any, "Range", "bytes=0-,0-")

			c.direct(t, one, "Range", "bytes=7-9", "If-Range", etag)
			c.direct(t, some, "Range", "bytes=50000-50009,7-9", "If-Range", etag)
			c.get(t, "", test.redirects, "Range", "bytes=50000-50009,7-9", "If-Range", `"x"`)
			c.get(t, "", test.redirects, "Range", "bytes=x", "If-Range", `"x"`)
			c.get(t, "", test.redirects, "If-Range", etag)
			c.direct(t, one, "Range", "bytes=7-9", "If-Match", etag)
			c.get(t, one, test.redirects, "Range", "bytes=7-9", "If-Match", "*")
			c.direct(t, "", "If-Match", etag)
			for _, ranges := range []string{"bytes=x", "bytes=100000-", "bytes=-0", "bytes=0-1,5-2"} {
				if w, err := c.send(t, "GET", "Range", ranges); !errors.Is(err, ErrRange{100_000}) || len(w.Header()) > 0 {
					t.Errorf("GET with Range %q = %v, %v, want an ErrRange and nothing written", ranges, err, w.Header())
				}
			}
		})
	}
}
