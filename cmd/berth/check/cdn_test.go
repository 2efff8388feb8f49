package check

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/redirect"
)

// cdn is a CDN in front of a bucket, with configurable flaws.
type cdn struct {
	bucket drivers.Bucket
	host   string
	path   string                                   // before the keys of the bucket
	signed func(r *http.Request) (known, live bool) // checks the signature

	shows     string // prefix of the keys that it may read
	unsigned  bool   // ignores signatures
	immortal  bool   // ignores expiry
	careless  bool   // serves its cache to any client
	cleans    bool   // removes dots from paths after it has checked the signature
	leaks     string // suffix of keys that it serves too
	oneHost   bool   // checks paths only if the host is written as in base_url
	lists     string // query by which it lists the bucket
	writes    string // method that changes the bucket and that it forwards
	prim      bool   // refuses a path with dots as a bad request
	tidies    bool   // redirects clients to the path without dots
	sendsTo   string // redirects clients there if it serves them nothing
	rangeless bool
	status    int // for objects that it does not serve;

	mu    sync.Mutex
	cache map[string]bool
}

func (c *cdn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, isBelow := strings.CutPrefix(r.URL.Path, c.path+"/")
	switch tidy := path.Clean(r.URL.Path); {
	case c.prim && (strings.Contains(key, "..") || strings.Contains(r.URL.EscapedPath(), "%2")):
		w.WriteHeader(http.StatusBadRequest)
	case c.tidies && tidy != r.URL.Path:
		http.Redirect(w, r, tidy, http.StatusMovedPermanently)
	case !c.accepts(r, key):
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path == "/" && c.lists != "" && r.URL.RawQuery == c.lists:
		_, _ = io.WriteString(w, "<?xml version=\"1.0\"?>\n"+map[string]string{
			"list-type=2":                 "<ListBucketResult><Contents>...",
			"restype=container&comp=list": "<EnumerationResults ContainerName=...",
		}[c.lists])
	case isBelow && strings.HasPrefix(key, c.shows), c.leaks != "" && strings.HasSuffix(key, c.leaks), c.oneHost && r.Host != c.host:
		c.serveObject(w, r, key)
	default:
		c.hide(w, r)
	}
}

// accepts reports whether the CDN accepts the signature of a request.
func (c *cdn) accepts(r *http.Request, key string) bool {
	c.mu.Lock()
	fromCache := c.careless && c.cache[key]
	c.mu.Unlock()
	known, live := c.signed(r)
	return fromCache || (known || c.unsigned) && (live || c.immortal)
}

// serveObject serves an object of the bucket, or writes it.
func (c *cdn) serveObject(w http.ResponseWriter, r *http.Request, key string) {
	if c.cleans {
		key = path.Clean(key)
	}
	if r.Method == c.writes && c.write(r, key) {
		return
	}
	body, _, err := c.bucket.Open(r.Context(), key, 0, -1)
	if err != nil {
		c.hide(w, r)
		return
	}
	defer body.Close()
	c.mu.Lock()
	c.cache[key] = true
	c.mu.Unlock()
	if c.rangeless {
		r.Header.Del("Range")
	}
	text, _ := io.ReadAll(body)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(text)))
}

// hide responds to a request for an object that the CDN does not serve.
func (c *cdn) hide(w http.ResponseWriter, r *http.Request) {
	if c.sendsTo != "" {
		http.Redirect(w, r, c.sendsTo, http.StatusFound)
		return
	}
	if c.status == http.StatusConflict {
		w.Header().Set("x-ms-error-code", "PublicAccessNotPermitted")
	}
	w.WriteHeader(c.status)
}

// write handles methods other than GET.
func (c *cdn) write(r *http.Request, key string) bool {
	switch o, err := c.bucket.Stat(r.Context(), key); {
	case err != nil:
		return false
	case r.Method == http.MethodPut:
		p, _ := io.ReadAll(r.Body)
		_, err = c.bucket.Replace(r.Context(), key, o.Tag, drivers.NewBody(p))
		return err == nil
	case r.Method == http.MethodDelete:
		return c.bucket.Delete(r.Context(), key) == nil
	}
	return false
}

const cdnSecret = "the secret"

// nginxSigned checks links like nginx's secure_link.
func nginxSigned(r *http.Request) (known, live bool) {
	expires := r.FormValue("expires")
	sum := md5.Sum([]byte(expires + r.URL.Path + " " + cdnSecret))
	until, _ := strconv.ParseInt(expires, 10, 64)
	return r.FormValue("md5") == base64.RawURLEncoding.EncodeToString(sum[:]), time.Now().Unix() < until
}

// prefixSigned checks the prefix that a signature covers, but not the signature.
func prefixSigned(r *http.Request) (known, live bool) {
	prefix, err := base64.URLEncoding.DecodeString(r.FormValue("URLPrefix"))
	until, _ := strconv.ParseInt(r.FormValue("Expires"), 10, 64)
	return err == nil && len(prefix) > 0 && strings.HasPrefix("http://"+r.Host+r.URL.EscapedPath(), string(prefix)), time.Now().Unix() < until
}

// storeSigned lets the store check the signatures of signer.
func storeSigned(r *http.Request) (known, live bool) {
	until, _ := strconv.ParseInt(r.FormValue("expires"), 10, 64)
	return r.FormValue("for") == strings.TrimPrefix(r.URL.Path, "/"), time.Now().UnixMilli() < until
}

func anySigned(*http.Request) (known, live bool) { return true, true }

// cdnSteps are the steps of a CDN called edge, and the last step.
var cdnSteps = []string{"CDN edge: data", "CDN edge: signatures", "CDN edge: reads only", "CDN edge: nothing but data", "clean up"}

// cdnCases are CDNs with flaws.
var cdnCases = []struct {
	name   string
	kind   string
	bad    func(c *cdn)
	want   []Status // of each step
	detail string   // in the first result that is not OK
}{
	{"nginx", "nginx", func(*cdn) {}, []Status{OK, OK, OK, OK, OK}, ""},
	{"nginx, dots refused", "nginx", func(c *cdn) { c.prim = true }, []Status{OK, OK, OK, OK, OK}, ""},
	{"nginx, all of the bucket", "nginx", func(c *cdn) { c.shows = "" }, []Status{OK, OK, OK, Failed, OK}, "with a signature, returned 200"},
	{"nginx, all but data", "nginx", func(c *cdn) { c.shows = "meta/" }, []Status{Failed, OK, OK, Failed, OK}, "returned 404"},
	{"nginx, dots", "nginx", func(c *cdn) { c.cleans = true }, []Status{OK, OK, OK, Failed, OK}, "data/../"},
	{"cloudcdn, dots past what is signed", "cloudcdn", func(c *cdn) { c.cleans, c.shows = true, "data/sha256/" }, []Status{OK, OK, OK, Failed, OK}, "with the signature of an object under data/, returned 200"},
	{"cloudcdn, a signature that is a bad request elsewhere", "cloudcdn", func(c *cdn) { c.status = http.StatusBadRequest }, []Status{OK, OK, OK, OK, OK}, ""},
	{"cloudcdn, a signature that is refused elsewhere", "cloudcdn", func(c *cdn) { c.status = http.StatusUnauthorized }, []Status{OK, OK, OK, OK, OK}, ""},
	{"nginx, records", "nginx", func(c *cdn) { c.leaks = "/record" }, []Status{OK, OK, OK, Failed, OK}, "/record?REDACTED, with a signature, returned 200"},
	{"nginx, another spelling of the host", "nginx", func(c *cdn) { c.oneHost = true }, []Status{OK, OK, OK, Failed, OK}, "with a signature, returned 200"},
	{"nginx, a login page", "nginx", func(c *cdn) { c.sendsTo = "/login" }, []Status{OK, OK, OK, Failed, OK}, "returned 302"},
	{"nginx, the key that all buckets have", "nginx", func(c *cdn) { c.leaks = "meta/format" }, []Status{OK, OK, OK, Failed, OK}, "/meta/format?REDACTED, with a signature, returned 200"},
	{"nginx, a new key under meta/", "nginx", func(c *cdn) { c.leaks = "/hidden" }, []Status{OK, OK, OK, Failed, OK}, "/hidden?REDACTED, with a signature, returned 200"},
	{"plain, tidied", "plain", func(c *cdn) { c.tidies = true }, []Status{OK, Skipped, OK, OK, OK}, "for as long as it exists"},
	{"nginx, writes", "nginx", func(c *cdn) { c.writes = http.MethodPut }, []Status{OK, OK, Failed, OK, OK}, "PUT of"},
	{"nginx, deletes", "nginx", func(c *cdn) { c.writes = http.MethodDelete }, []Status{OK, OK, Failed, OK, OK}, "DELETE of"},
	{"nginx, no signatures", "nginx", func(c *cdn) { c.unsigned, c.immortal = true, true }, []Status{OK, Failed, OK, OK, OK}, "without its signature returned 200"},
	{"nginx, no expiry", "nginx", func(c *cdn) { c.immortal = true }, []Status{OK, Failed, OK, OK, OK}, "after it expired returned 200"},
	{"nginx, a cache for any client", "nginx", func(c *cdn) { c.careless = true }, []Status{OK, Failed, OK, OK, OK}, "without its signature returned 200"},
	{"nginx, no ranges", "nginx", func(c *cdn) { c.rangeless = true }, []Status{Warning, OK, OK, OK, OK}, "for a Range"},
	{"nginx, broken", "nginx", func(c *cdn) { c.status = http.StatusBadGateway }, []Status{OK, OK, OK, Failed, OK}, "returned 502"},
	{"plain", "plain", func(*cdn) {}, []Status{OK, Skipped, OK, OK, OK}, "for as long as it exists"},
	{"plain, bad requests", "plain", func(c *cdn) { c.status = http.StatusBadRequest }, []Status{OK, Skipped, OK, Failed, OK}, "for as long as it exists"},
	{"plain, a password", "plain", func(c *cdn) { c.status = http.StatusUnauthorized }, []Status{OK, Skipped, OK, Failed, OK}, "for as long as it exists"},
	{"plain, a listing", "plain", func(c *cdn) { c.lists = "list-type=2" }, []Status{OK, Skipped, OK, Failed, OK}, "for as long as it exists"},
	{"plain, a listing above", "plain", func(c *cdn) { c.lists, c.path = "list-type=2", "/the/prefix" }, []Status{OK, Skipped, OK, Failed, OK}, "for as long as it exists"},
	{"plain, Azure's listing", "plain", func(c *cdn) { c.lists = "restype=container&comp=list" }, []Status{OK, Skipped, OK, Failed, OK}, "for as long as it exists"},
	{"plain, all of the bucket", "plain", func(c *cdn) { c.shows = "" }, []Status{OK, Skipped, OK, Failed, OK}, "for as long as it exists"},
	{"frontdoor", "frontdoor", func(*cdn) {}, []Status{OK, OK, OK, OK, OK}, ""},
	{"frontdoor, Azure's response", "frontdoor", func(c *cdn) { c.status = http.StatusConflict }, []Status{OK, OK, OK, OK, OK}, ""},
	{"frontdoor, a cache without the query", "frontdoor", func(c *cdn) { c.careless = true }, []Status{OK, Failed, OK, OK, OK}, "without its signature returned 200"},
	{"frontdoor, a public container", "frontdoor", func(c *cdn) { c.unsigned, c.immortal, c.shows = true, true, "" }, []Status{OK, Failed, OK, Failed, OK}, "without its signature"},
}

func TestCDNs(t *testing.T) {
	for _, tc := range cdnCases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := openMemory(t, memory.S3())
			for _, key := range []string{"meta/format", "blobs/sha256/00/00ff/links/team!app", "blobs/sha256/00/00ff/record"} {
				if _, err := b.Create(t.Context(), key, drivers.NewBody([]byte("secret"))); err != nil {
					t.Fatal(err)
				}
			}
			c := &cdn{bucket: b, shows: "data/", status: http.StatusNotFound, cache: map[string]bool{}}
			tc.bad(c)
			b, policy := startCDN(t, c, tc.kind)
			results := Redirects(t.Context(), b, policy)
			if len(results) != len(cdnSteps) {
				t.Fatalf("%d results, want %d: %+v", len(results), len(cdnSteps), results)
			}
			problem := "" // the first
			for i, r := range results {
				if r.Step != cdnSteps[i] || r.Status != tc.want[i] {
					t.Errorf("%s: %s (%s), want %s: %s", r.Step, r.Status, r.Detail, cdnSteps[i], tc.want[i])
				}
				if r.Status != OK && problem == "" {
					problem = r.Detail
				}
				if strings.Contains(strings.ReplaceAll(r.Detail, "?"+c.lists+" returned 200", ""), "=") {
					t.Errorf("the detail of %s contains a signature: %s", r.Step, r.Detail)
				}
			}
			if !strings.Contains(problem, tc.detail) {
				t.Errorf("first problem: %q, want %q in it", problem, tc.detail)
			}
			if left := keysOf(t, b); len(left) != 3 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// startCDN starts a CDN of a kind, and returns its bucket and a policy with it.
func startCDN(t *testing.T, c *cdn, kind string) (drivers.Bucket, *redirect.Policy) {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	c.host = "localhost:" + port
	bucket, entry := c.bucket, redirect.CDN{Kind: kind, BaseURL: "http://" + c.host + c.path}
	switch kind {
	case "nginx":
		c.signed, entry.Keys = nginxSigned, []redirect.Key{{Value: cdnSecret}}
	case "cloudcdn":
		c.signed, entry.Form = prefixSigned, "prefix"
		entry.Keys = []redirect.Key{{ID: "key", Value: "nZtRohdNF9m3cKM24IcK4w=="}}
	case "frontdoor":
		c.signed, bucket = storeSigned, signer{bucket, "http://store.example"}
	default:
		c.signed = anySigned
	}
	policy, err := redirect.New(redirect.Config{CDN: map[string]redirect.CDN{"edge": entry}})
	if err != nil {
		t.Fatal(err)
	}
	return bucket, policy
}

// TestDetours tests CDNs that refuse all forms of a path except one.
func TestDetours(t *testing.T) {
	unescaped := func(p string) string {
		p, _ = url.PathUnescape(p)
		return p
	}
	cleaned := func(p string) string { return path.Clean(unescaped(p)) }
	contains := func(p string, parts ...string) bool {
		return slices.ContainsFunc(parts, func(s string) bool { return strings.Contains(p, s) })
	}
	notBelow := func(prefix string, parts ...string) func(string) bool {
		return func(p string) bool { return !strings.HasPrefix(p, prefix) || contains(p, parts...) }
	}
	dots := func(p string) bool {
		return slices.ContainsFunc(strings.Split(p, "/"), func(s string) bool { return unescaped(s) == ".." })
	}
	named := func(p string) bool { return strings.HasPrefix(p, "meta/") || strings.HasPrefix(p, "blobs/") }
	for _, tc := range []struct {
		detour  string                   // in the result
		refuses func(path string) bool   // before the read
		key     func(path string) string // that it reads for a path
	}{
		{"/data/../meta/", notBelow("data/", "%"), path.Clean},
		{"/data/%2e%2e/meta/", notBelow("data/", "..", "%2f", "%25"), cleaned},
		{"/data/..%2fmeta/", func(p string) bool { return notBelow("data/")(p) || dots(p) }, cleaned},
		{"/data/%252e%252e/meta/", func(p string) bool { return notBelow("data/")(p) || contains(unescaped(p), "..") },
			func(p string) string { return cleaned(unescaped(p)) }},
		{"//meta/", named, func(p string) string { return strings.TrimPrefix(p, "/") }},
		{"/./meta/", named, func(p string) string { return strings.TrimPrefix(p, "./") }},
		{"/%6deta/", named, unescaped},
		{"/../../../../../meta/", notBelow("data/sha256/", "%"), path.Clean},
		{"/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/meta/", notBelow("data/sha256/", "..", "%2f", "%25"), cleaned},
		{"/..%2f..%2f..%2f..%2f..%2fmeta/", func(p string) bool { return notBelow("data/sha256/")(p) || dots(p) }, cleaned},
	} {
		b := openMemory(t, memory.S3())
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, _, _ := strings.Cut(strings.TrimPrefix(r.RequestURI, "/"), "?")
			if tc.refuses(p) {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			body, _, err := b.Open(r.Context(), tc.key(p), 0, -1)
			if err != nil {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			defer body.Close()
			_, _ = io.Copy(w, body)
		}))
		policy, err := redirect.New(redirect.Config{CDN: map[string]redirect.CDN{"edge": {Kind: "plain", BaseURL: server.URL}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range Redirects(t.Context(), b, policy) {
			if r.Step == "CDN edge: nothing but data" && (r.Status != Failed || !strings.Contains(r.Detail, tc.detour)) {
				t.Errorf("a CDN that shows %s: %s: %s", tc.detour, r.Status, r.Detail)
			}
		}
		server.Close()
	}
}

func keysOf(t *testing.T, b drivers.Bucket) []string {
	t.Helper()
	var keys []string
	for o, err := range b.List(t.Context(), "", "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// TestCDNDown tests a CDN that cannot be reached, and a bucket that cannot be
// written to. Neither proves anything.
func TestCDNDown(t *testing.T) {
	down := httptest.NewServer(nil)
	down.Close()
	policy, err := redirect.New(redirect.Config{CDN: map[string]redirect.CDN{
		"edge": {Kind: "nginx", BaseURL: down.URL, Keys: []redirect.Key{{Value: cdnSecret}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	good := openMemory(t, memory.S3())
	for name, b := range map[string]drivers.Bucket{"CDN down": good, "bucket denied": denied{good}} {
		var got []string
		for _, r := range Redirects(t.Context(), b, policy) {
			if r.Step != "clean up" {
				got = append(got, fmt.Sprint(r.Step, ": ", r.Status))
			}
		}
		status := Failed
		if name == "CDN down" {
			status = Warning // data has failed already
		}
		want := []string{
			"CDN edge: data: failed", fmt.Sprint("CDN edge: signatures: ", status),
			fmt.Sprint("CDN edge: reads only: ", status), "CDN edge: nothing but data: failed",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestRedirectHost tests a store on the service's own host.
func TestRedirectHost(t *testing.T) {
	policy, err := redirect.New(redirect.Config{PublicURL: "https://registry.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	b := openMemory(t, memory.S3())
	if got := Redirects(t.Context(), signer{b, "https://store.example.com"}, policy); len(got) != 0 {
		t.Errorf("on another host: %+v, want no results", got)
	}
	got := Redirects(t.Context(), signer{b, "https://store.registry.example.com"}, policy)
	if len(got) != 1 || got[0].Status != Failed || !strings.Contains(got[0].Detail, "subdomain") {
		t.Errorf("on a subdomain: %+v, want a failure", got)
	}
}
