package system

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/redirect"
)

// forEach calls f for all blobs, a few at a time, and stops the test at an error.
func forEach(t *testing.T, blobs [][]byte, f func(data []byte) error) {
	t.Helper()
	const workers = 8
	var failed [workers]error
	var work sync.WaitGroup
	for w := range workers {
		work.Go(func() {
			for i := w; i < len(blobs) && failed[w] == nil; i += workers {
				failed[w] = f(blobs[i])
			}
		})
	}
	work.Wait()
	if err := errors.Join(failed[:]...); err != nil {
		t.Fatal(err)
	}
}

// TestCDN pulls blobs through nginx with real clients. It also tests the examples in
// deploy/cdn: the store serves nginx what the policy allows, and nginx serves clients
// what berth has signed.
func TestCDN(t *testing.T) {
	t.Parallel()
	testCDN(t, 20)
}

// TestLongCDN is TestCDN with more blobs than nginx has connections.
func TestLongCDN(t *testing.T) {
	skipUnlessLong(t, "a thousand blobs through a CDN")
	testCDN(t, 1000)
}

func testCDN(t *testing.T, count int) {
	e := startEdge(t)
	const size = 17 << 10 // larger than storage.inline_max
	blobs := make([][]byte, count)
	for i := range blobs {
		blobs[i] = randomBytes(uint64(i), size)
	}
	forEach(t, blobs, func(data []byte) error { return e.push(t.Context(), data) })

	pullCached := func(data []byte) error {
		_, a, err := e.pull(t.Context(), data)
		if got := a.header.Get("X-Cache-Status"); err == nil && got != "HIT" {
			err = fmt.Errorf("X-Cache-Status = %q, want HIT", got)
		}
		return err
	}
	tools := toolsDir(t)
	for _, c := range []struct {
		name     string
		blobs    [][]byte
		requests int // to the store
		pull     func(data []byte) error
	}{
		{"oras", blobs, count, func(data []byte) error {
			return e.pullWith(t.Context(), data, filepath.Join(tools, "oras"), "blob", "fetch", "--plain-http", "--output", "-")
		}},
		{"second pull", blobs, 0, pullCached},
		{"crane", blobs[:3], 0, func(data []byte) error {
			return e.pullWith(t.Context(), data, filepath.Join(tools, "crane"), "blob", "--insecure")
		}},
	} {
		before := e.requests.Load()
		forEach(t, c.blobs, c.pull)
		if requests := e.requests.Load() - before; requests != int64(c.requests) {
			t.Errorf("%s: %d requests to the store for %d blobs, want %d", c.name, requests, len(c.blobs), c.requests)
		}
	}
	e.wantRefusals(t, blobs[0])

	wantCheckPasses(t, e.env, e.config, "md5=")
	e.wantNoLinksInLogs(t)
}

// wantCheckPasses requires that `berth check` finds no problem and prints no
// signature.
func wantCheckPasses(t *testing.T, env []string, config, signature string) {
	t.Helper()
	check := exec.CommandContext(t.Context(), filepath.Join(buildDir, "berth"), "check", "--config", config)
	check.Env = env
	out, err := check.CombinedOutput()
	if err != nil || strings.Contains(string(out), signature) || !strings.Contains(string(out), "CDN edge: nothing but data") {
		t.Errorf("berth check = %v, want no error, no signature, and the CDN checked\n%s", err, out)
	}
}

// TestCDNPrefix tests a bucket with a prefix, set up as deploy/README.md describes.
func TestCDNPrefix(t *testing.T) {
	t.Parallel()
	e := startEdgeWithPrefix(t, "/the/prefix")
	data := randomBytes(1, 17<<10)
	if err := e.push(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.pull(t.Context(), data); err != nil {
		t.Error(err)
	}
	wantCheckPasses(t, e.env, e.config, "md5=")
}

// TestCDNSlices reads a blob of two slices through nginx, whole and in ranges.
func TestCDNSlices(t *testing.T) {
	t.Parallel()
	e := startEdge(t)
	const slice = 16 << 20
	data := randomBytes(1, slice+slice/4)
	if err := e.push(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	link, _, err := e.pull(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ first, last int }{{0, 0}, {slice - 10, slice + 10}, {len(data) - 5, len(data) - 1}} {
		a, err := e.get(t.Context(), link, http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", r.first, r.last)}})
		if err != nil || a.status != http.StatusPartialContent || !bytes.Equal(a.body, data[r.first:r.last+1]) {
			t.Errorf("GET of bytes %d to %d = %d with %d bytes, %v, want 206 with these bytes of the blob", r.first, r.last, a.status, len(a.body), err)
		}
	}
	if requests := e.requests.Load(); requests != 2 {
		t.Errorf("%d requests to the store, want one for each of two slices", requests)
	}
	e.testSeveralRanges(t, link, data)
}

// testSeveralRanges checks that berth answers a request for several ranges, because
// nginx answers it with the whole blob, unless its cache holds the blob in one file.
func (e *edge) testSeveralRanges(t *testing.T, link string, data []byte) {
	t.Helper()
	const ranges, parts = "bytes=17000000-17000009,0-9", 2
	a, err := e.get(t.Context(), link, http.Header{"Range": {ranges}})
	if err != nil || a.status != http.StatusOK || len(a.body) != len(data) {
		t.Errorf("nginx: GET of %s = %d with %d bytes, %v, want 200 with the whole blob; if nginx can answer it now, use redirect.cdn.<name>.ranges", ranges, a.status, len(a.body), err)
	}
	a, err = e.get(t.Context(), e.berth.url+"/v2/test/blobs/"+digest.FromBytes(data).String(), http.Header{"Range": {ranges}})
	if err != nil || a.status != http.StatusPartialContent || bytes.Count(a.body, []byte("Content-Range: bytes ")) != parts ||
		!bytes.Contains(a.body, data[17_000_000:17_000_010]) || !bytes.Contains(a.body, data[:10]) {
		t.Errorf("berth: GET of %s = %d with %d bytes, %v, want 206 with both ranges", ranges, a.status, len(a.body), err)
	}
}

// wantRefusals checks that neither nginx nor the store behind it serves what berth has
// not signed. The blob must be in nginx's cache.
func (e *edge) wantRefusals(t *testing.T, data []byte) {
	link, _, err := e.pull(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	e.testLinks(t, link, u.Path, digest.FromBytes(data))
	for method, want := range map[string]int{
		http.MethodHead: http.StatusOK, http.MethodPut: http.StatusForbidden, http.MethodPost: http.StatusForbidden,
		http.MethodDelete: http.StatusForbidden, http.MethodOptions: http.StatusForbidden, "PURGE": http.StatusForbidden,
	} {
		if a, err := e.do(t.Context(), method, link, nil); err != nil || a.status != want {
			t.Errorf("%s of a link = %d, %v, want %d", method, a.status, err, want)
		}
	}
	e.testAbsentObject(t, u.Path)
	if _, a, err := e.pull(t.Context(), data); err != nil || a.header.Get("X-Cache-Status") != "HIT" {
		t.Errorf("pull after the refusals: X-Cache-Status = %q, %v, want HIT", a.header.Get("X-Cache-Status"), err)
	}
}

// testLinks requests links that berth has not signed, and URLs of the store.
func (e *edge) testLinks(t *testing.T, link, path string, d digest.Digest) {
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
	record := "/blobs/sha256/" + d.Encoded()[:2] + "/" + d.Encoded() + "/record"
	for _, c := range []struct {
		what, url string
		want      int
	}{
		{"a link signed by the test", e.signed(path, soon), http.StatusOK},
		{"no signature", e.URL + path, http.StatusForbidden},
		{"another time", strings.Replace(link, "expires=1", "expires=2", 1), http.StatusForbidden},
		{"another path", strings.Replace(link, path, path+"0", 1), http.StatusForbidden},
		{"another signature", strings.Replace(link, "md5=", "md5=0", 1), http.StatusForbidden},
		{"an expired link", e.signed(path, past), http.StatusGone},
		{"meta/format, signed", e.signed("/meta/format", soon), http.StatusNotFound},
		{"meta/token-key, signed", e.signed("/meta/token-key", soon), http.StatusNotFound},
		{"a record, signed", e.signed(record, soon), http.StatusNotFound},
		{"a record, by data/..", e.signed("/data/.."+record, soon), http.StatusNotFound},
		{"a record, by data/.. escaped", e.signed("/data/%2e%2e"+record, soon), http.StatusNotFound},
		{"a record, by data/.. escaped twice", e.signed("/data/%252e%252e"+record, soon), http.StatusNotFound},
		{"a record, by data/.. with an escaped slash", e.signed("/data/..%2f"+record[1:], soon), http.StatusNotFound},
		{"a record, by .. after a signed path", strings.Replace(link, path, path+"/../../../../.."+record, 1), http.StatusNotFound},
		{"a record, after two slashes", e.signed("/"+record, soon), http.StatusNotFound},
		{"data/ in capitals, signed", e.signed("/DATA"+strings.TrimPrefix(path, "/data"), soon), http.StatusNotFound},
		{"another signature before the right one", strings.Replace(link, "md5=", "md5=0&md5=", 1), http.StatusForbidden},
		{"a link with additions to its query", link + "&acl&list-type=2&versions", http.StatusOK},
		{"a listing of data/, signed", e.signed("/data/", soon), http.StatusNotFound},
		{"a listing of the bucket, at the store", e.bucket + "?list-type=2", http.StatusForbidden},
		{"meta/format, at the store", e.bucket + "/meta/format", http.StatusForbidden},
		{"a record, at the store", e.bucket + record, http.StatusForbidden},
		{"an object under data/, at the store", e.bucket + path, http.StatusOK},
	} {
		a, err := e.get(t.Context(), c.url, nil)
		if err != nil || a.status != c.want {
			t.Errorf("%s: GET %s = %d, %v, want %d", c.what, c.url, a.status, err, c.want)
		}
		if cache := a.header.Get("X-Cache-Status"); a.status == http.StatusOK && strings.HasPrefix(c.url, e.URL) && cache != "HIT" {
			t.Errorf("%s: X-Cache-Status = %q, want HIT, because the blob is in the cache", c.what, cache)
		}
	}
}

// testAbsentObject checks that nginx passes no headers of clients on to the store, and
// does not cache its 404. The store's proxy checks the requests.
func (e *edge) testAbsentObject(t *testing.T, path string) {
	absent := e.signed(path[:len(path)-4]+"zzzz", time.Now().Add(time.Hour))
	header := http.Header{
		"Authorization": {"Bearer token"}, "X-Http-Method-Override": {"DELETE"}, "X-Forwarded-For": {"203.0.113.7"},
		"If-None-Match": {"*"}, "Range": {"bytes=99999999-"},
	}
	before := e.requests.Load()
	for range 2 {
		if a, err := e.get(t.Context(), absent, header); err != nil || a.status != http.StatusForbidden && a.status != http.StatusNotFound {
			t.Errorf("GET of an absent object = %d, %v, want %d or %d", a.status, err, http.StatusForbidden, http.StatusNotFound)
		}
	}
	if requests := e.requests.Load() - before; requests != 2 {
		t.Errorf("%d requests to the store for two GETs of an absent object, want 2", requests)
	}
}

// TestCDNConfig checks that the configuration in deploy/cdn signs a link for each CDN.
func TestCDNConfig(t *testing.T) {
	t.Parallel()
	keys := t.TempDir()
	for name, text := range map[string]string{"nginx.key": "secret", "cloudflare.key": "secret", "cloudcdn.key": "MDEyMzQ1Njc4OWFiY2RlZg=="} {
		if err := os.WriteFile(filepath.Join(keys, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rsa, err := filepath.Abs(filepath.Join("..", "..", "..", "redirect", "testdata", "rsa.pem"))
	if err != nil {
		t.Fatal(err)
	}
	const target = "target: cdn:cloudfront"
	example := cdnExample(t, "berth.yaml", "/etc/berth/cloudfront.pem", rsa, "/etc/berth/", keys+"/")
	const key = "data/new/ab/ABC"
	for _, name := range []string{"nginx", "cloudfront", "cloudcdn", "frontdoor", "cloudflare"} {
		file := filepath.Join(t.TempDir(), "berth.yaml")
		if err := os.WriteFile(file, []byte(strings.Replace(example, target, "target: cdn:"+name, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(file, pflag.NewFlagSet("berth", pflag.ContinueOnError))
		if err != nil {
			t.Fatal(err)
		}
		policy, err := redirect.New(cfg.Redirect)
		if err != nil {
			t.Fatal(err)
		}
		d, err := policy.Decide(t.Context(), drivertest.Signing(nil), redirect.Request{Key: key, Size: 1 << 20})
		if want := cfg.Redirect.CDN[name].BaseURL + "/" + key + "?"; err != nil || !strings.HasPrefix(d.URL, want) {
			t.Errorf("%s: Decide = %q, %v, want %s…", name, d.URL, err, want)
		}
	}
}
