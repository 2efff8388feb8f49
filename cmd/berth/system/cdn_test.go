package system

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/redirect"
)

// edge is berth on versitygw with nginx as its CDN, both as deploy/cdn sets
// them up: nginx reads the bucket by no right but its policy's.
type edge struct {
	*emulator.Nginx
	berth  *process
	config string       // its file
	env    []string     // its environment, in which nginx is trusted
	key    string       // of the links
	prefix string       // of the bucket's keys
	bucket string       // its URL, for clients without credentials
	log    string       // nginx's file
	asked  atomic.Int64 // requests that nginx has made
}

func startEdge(t *testing.T) *edge { return startEdgeAt(t, "") }

// startEdgeAt starts them on a bucket with this prefix of its keys, with a slash
// before it.
func startEdgeAt(t *testing.T, prefix string) *edge {
	t.Helper()
	store := emulator.VersityGW(t)
	bucket := store.Bucket(t)
	publish(t, store, bucket, prefix)

	e := &edge{key: "the key of links"}
	upstream, err := url.Parse(store.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Transport: ownTransport(), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(upstream) }}
	counter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.asked.Add(1)
		if r.Method != http.MethodGet || !strings.HasPrefix(r.RequestURI, "/"+bucket+prefix+"/data/") || strings.Contains(r.RequestURI, "?") || r.UserAgent() != "" {
			t.Errorf("nginx asks the store to %s %s, with the headers %v, want GET of what is under data/, and nothing of what its clients say",
				r.Method, r.RequestURI, r.Header)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(counter.Close)
	e.bucket = store.Endpoint + "/" + bucket
	e.prefix = prefix
	e.Nginx = emulator.StartNginx(t, func(dir, addr, cert, key string) string {
		e.log = filepath.Join(dir, "access.log")
		return filledIn(t, "nginx.conf",
			"/var/cache/nginx/berth", filepath.Join(dir, "cache"),
			"^/data/", "^"+prefix+"/data/",
			"listen 443 ", "listen "+addr+" ",
			"/etc/nginx/cdn.example.com.pem", cert,
			"/etc/nginx/cdn.example.com.key", key,
			"/etc/ssl/certs/ca-certificates.crt", cert,
			"/var/log/nginx/berth.log", e.log,
			"KEY", e.key,
			"https://BUCKET.s3.REGION.amazonaws.com", counter.URL+"/"+bucket)
	})

	e.config = filepath.Join(t.TempDir(), "berth.yaml")
	err = os.WriteFile(e.config, fmt.Appendf(nil, `
storage:
  driver: s3
  prefix: %q
  s3: {bucket: %q, region: %q, endpoint: %q, path_style: true}
redirect:
  cdn: {edge: {kind: nginx, base_url: %q, keys: [{env: EDGE_KEY}]}}
  rules: [{target: "cdn:edge"}]
telemetry: {log_level: debug}
`, prefix, bucket, store.Region, store.Endpoint, e.URL+prefix), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	e.env = append(cleanEnv(), "SSL_CERT_FILE="+e.CertFile, "EDGE_KEY="+e.key,
		"BERTH_STORAGE_S3_ACCESS_KEY_ID="+store.AccessKeyID, "BERTH_STORAGE_S3_SECRET_ACCESS_KEY="+store.SecretAccessKey)
	e.berth, err = start(t.TempDir(), e.env, "--config", e.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.berth.stop(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// publish gives the bucket the policy that lets the CDN in.
func publish(t *testing.T, store *emulator.S3, bucket, prefix string) {
	t.Helper()
	policy := filledIn(t, "nginx-origin.json", "BUCKET/data/", bucket+prefix+"/data/", "203.0.113.7/32", "127.0.0.1/32")
	if _, err := s3Client(store).PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: aws.String(policy)}); err != nil {
		t.Fatal(err)
	}
}

// filledIn is an example of deploy/cdn with what was left to fill in, or is
// different here. Every old text must be in it.
func filledIn(t *testing.T, name string, oldnew ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "cdn", name))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(oldnew); i += 2 {
		if !bytes.Contains(data, []byte(oldnew[i])) {
			t.Fatalf("deploy/cdn/%s has no %q", name, oldnew[i])
		}
	}
	return strings.NewReplacer(oldnew...).Replace(string(data))
}

// signed is the link that nginx takes for a path until that time.
func (e *edge) signed(path string, until time.Time) string {
	sum := md5.Sum(fmt.Appendf(nil, "%d%s %s", until.Unix(), path, e.key))
	return fmt.Sprintf("%s%s?md5=%s&expires=%d", e.URL, path, base64.RawURLEncoding.EncodeToString(sum[:]), until.Unix())
}

// get fetches a URL, with a header or without, and follows nothing.
func (e *edge) get(ctx context.Context, url string, header http.Header) (answer, error) {
	return e.do(ctx, http.MethodGet, url, header)
}

func (e *edge) do(ctx context.Context, method, url string, header http.Header) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return answer{}, err
	}
	maps.Copy(req.Header, header)
	res, err := e.Transport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, body}, err
}

// pull reads a blob as clients do: berth redirects, and nginx serves the blob. It
// returns the target of the redirect, and nginx's answer.
func (e *edge) pull(ctx context.Context, data []byte) (link string, got answer, err error) {
	path := "/v2/test/blobs/" + digest.FromBytes(data).String()
	a, err := e.get(ctx, e.berth.url+path, nil)
	if err != nil {
		return "", answer{}, err
	}
	link = a.header.Get("Location")
	if a.status != http.StatusTemporaryRedirect || !strings.HasPrefix(link, e.URL+e.prefix+"/data/") || len(a.body) != 0 {
		return "", answer{}, fmt.Errorf("GET %s = %d to %q with %d bytes, want a redirect to %s%s/data/ and no bytes", path, a.status, link, len(a.body), e.URL, e.prefix)
	}
	got, err = e.get(ctx, link, nil)
	if err == nil && (got.status != http.StatusOK || !bytes.Equal(got.body, data)) {
		err = fmt.Errorf("GET %s = %d, %d bytes, want the %d that were pushed", link, got.status, len(got.body), len(data))
	}
	return link, got, err
}

// push pushes a blob in one request.
func (e *edge) push(ctx context.Context, data []byte) error {
	path := "/v2/test/blobs/uploads/?digest=" + digest.FromBytes(data).String()
	a, err := request(ctx, e.berth, http.MethodPost, path, bytes.NewReader(data))
	if err == nil && a.status != http.StatusCreated {
		err = fmt.Errorf("POST %s = %d %s, want %d", path, a.status, a.body, http.StatusCreated)
	}
	return err
}

// each calls f for all blobs, a few at a time, and ends the test at an error.
func each(t *testing.T, blobs [][]byte, f func(data []byte) error) {
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

// TestCDN pulls a thousand blobs through nginx with oras, and then once more. It is also
// the test of the examples: the store gives nginx what the policy allows, and
// nginx gives clients what berth has signed.
func TestCDN(t *testing.T) {
	t.Parallel()
	e := startEdge(t)
	const count, size = 1000, 17 << 10 // more than what is inline
	blobs := make([][]byte, count)
	for i := range blobs {
		blobs[i] = randomBytes(uint64(i), size)
	}
	each(t, blobs, func(data []byte) error { return e.push(t.Context(), data) })

	again := func(data []byte) error {
		_, a, err := e.pull(t.Context(), data)
		if got := a.header.Get("X-Cache-Status"); err == nil && got != "HIT" {
			err = fmt.Errorf("it is a %q, want a HIT", got)
		}
		return err
	}
	tools := toolsDir(t)
	for _, c := range []struct {
		name  string
		blobs [][]byte
		asked int64 // of the store
		pull  func(data []byte) error
	}{
		{"oras", blobs, count, func(data []byte) error {
			return e.pullWith(t.Context(), data, filepath.Join(tools, "oras"), "blob", "fetch", "--plain-http", "--output", "-")
		}},
		{"the second pull", blobs, 0, again},
		{"crane", blobs[:3], 0, func(data []byte) error {
			return e.pullWith(t.Context(), data, filepath.Join(tools, "crane"), "blob", "--insecure")
		}},
	} {
		before := e.asked.Load()
		each(t, c.blobs, c.pull)
		if asked := e.asked.Load() - before; asked != c.asked {
			t.Errorf("%s asked the store %d times for %d blobs, want %d", c.name, asked, len(c.blobs), c.asked)
		}
	}
	e.refuses(t, blobs[0])

	wantChecked(t, e.env, e.config, "md5=")
	e.logsNoLinks(t)
}

// wantChecked wants `berth check` to find nothing, and to show no signature.
func wantChecked(t *testing.T, env []string, config, signature string) {
	t.Helper()
	check := exec.CommandContext(t.Context(), filepath.Join(buildDir, "berth"), "check", "--config", config)
	check.Env = env
	out, err := check.CombinedOutput()
	if err != nil || strings.Contains(string(out), signature) || !strings.Contains(string(out), "CDN edge: nothing but data") {
		t.Errorf("berth check: %v, want no error, no signature, and the CDN checked\n%s", err, out)
	}
}

// TestCDNPrefix tests a bucket with a prefix, configured by deploy/README.md.
func TestCDNPrefix(t *testing.T) {
	t.Parallel()
	e := startEdgeAt(t, "/the/prefix")
	data := randomBytes(1, 17<<10)
	if err := e.push(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.pull(t.Context(), data); err != nil {
		t.Error(err)
	}
	wantChecked(t, e.env, e.config, "md5=")
}

// logsNoLinks wants no link that works in berth's log, nor in nginx's.
func (e *edge) logsNoLinks(t *testing.T) {
	data, err := os.ReadFile(e.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, log, want string }{
		{"berth's log", e.berth.stderr.String(), "status=307"},
		{"nginx's log", string(data), `"GET /data/`},
	} {
		if !strings.Contains(c.log, c.want) || strings.Contains(c.log, "md5=") {
			t.Errorf("%s has no %s, or has a signature: %.2000s", c.what, c.want, c.log)
		}
	}
}

// TestCDNSlices: a blob of more than a slice comes whole, and in ranges.
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
	for _, r := range []struct{ from, to int }{{0, 0}, {slice - 10, slice + 10}, {len(data) - 5, len(data) - 1}} {
		a, err := e.get(t.Context(), link, http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", r.from, r.to)}})
		if err != nil || a.status != http.StatusPartialContent || !bytes.Equal(a.body, data[r.from:r.to+1]) {
			t.Errorf("bytes %d to %d = %d, %d bytes, %v, want those of the blob", r.from, r.to, a.status, len(a.body), err)
		}
	}
	if asked := e.asked.Load(); asked != 2 {
		t.Errorf("the store was asked %d times, want one time for each of two slices", asked)
	}

	// nginx answers several ranges with all of the blob, unless all of it is one
	// file of its cache. So berth answers them.
	const ranges, parts = "bytes=17000000-17000009,0-9", 2
	a, err := e.get(t.Context(), link, http.Header{"Range": {ranges}})
	if err != nil || a.status != http.StatusOK || len(a.body) != len(data) {
		t.Errorf("nginx answers %s with %d, %d bytes, %v: it can be redirect.cdn.<name>.ranges now", ranges, a.status, len(a.body), err)
	}
	a, err = e.get(t.Context(), e.berth.url+"/v2/test/blobs/"+digest.FromBytes(data).String(), http.Header{"Range": {ranges}})
	if err != nil || a.status != http.StatusPartialContent || bytes.Count(a.body, []byte("Content-Range: bytes ")) != parts ||
		!bytes.Contains(a.body, data[17_000_000:17_000_010]) || !bytes.Contains(a.body, data[:10]) {
		t.Errorf("berth answers %s with %d, %d bytes, %v, want parts", ranges, a.status, len(a.body), err)
	}
}

// refuses tries to get from nginx, and from the store behind it, what berth has
// not signed. The blob is in nginx's cache.
func (e *edge) refuses(t *testing.T, data []byte) {
	link, _, err := e.pull(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
	hex := digest.FromBytes(data).Encoded()
	record := "/blobs/sha256/" + hex[:2] + "/" + hex + "/record"
	for _, c := range []struct {
		what, url string
		want      int
	}{
		{"a link made as berth makes it", e.signed(u.Path, soon), http.StatusOK},
		{"no signature", e.URL + u.Path, http.StatusForbidden},
		{"another time", strings.Replace(link, "expires=1", "expires=2", 1), http.StatusForbidden},
		{"another path", strings.Replace(link, u.Path, u.Path+"0", 1), http.StatusForbidden},
		{"another signature", strings.Replace(link, "md5=", "md5=0", 1), http.StatusForbidden},
		{"an expired link", e.signed(u.Path, past), http.StatusGone},
		{"meta/format, signed", e.signed("/meta/format", soon), http.StatusNotFound},
		{"meta/token-key, signed", e.signed("/meta/token-key", soon), http.StatusNotFound},
		{"a record, signed", e.signed(record, soon), http.StatusNotFound},
		{"a record, past data/", e.signed("/data/.."+record, soon), http.StatusNotFound},
		{"a record, past an escaped data/", e.signed("/data/%2e%2e"+record, soon), http.StatusNotFound},
		{"a record, past data/, escaped twice", e.signed("/data/%252e%252e"+record, soon), http.StatusNotFound},
		{"a record, past data/, with an escaped slash", e.signed("/data/..%2f"+record[1:], soon), http.StatusNotFound},
		{"a record, past what is under data/", strings.Replace(link, u.Path, u.Path+"/../../../../.."+record, 1), http.StatusNotFound},
		{"a record, after two slashes", e.signed("/"+record, soon), http.StatusNotFound},
		{"data/ in capitals, signed", e.signed("/DATA"+strings.TrimPrefix(u.Path, "/data"), soon), http.StatusNotFound},
		{"another signature, and then the right one", strings.Replace(link, "md5=", "md5=0&md5=", 1), http.StatusForbidden},
		{"a link with more in its query", link + "&acl&list-type=2&versions", http.StatusOK},
		{"a listing of data/, signed", e.signed("/data/", soon), http.StatusNotFound},
		{"the listing of the bucket, by its origin", e.bucket + "?list-type=2", http.StatusForbidden},
		{"meta/format, by its origin", e.bucket + "/meta/format", http.StatusForbidden},
		{"a record, by its origin", e.bucket + record, http.StatusForbidden},
		{"what is under data/, by its origin", e.bucket + u.Path, http.StatusOK},
	} {
		a, err := e.get(t.Context(), c.url, nil)
		if err != nil || a.status != c.want {
			t.Errorf("%s: GET %s = %d, %v, want %d", c.what, c.url, a.status, err, c.want)
		}
		if cache := a.header.Get("X-Cache-Status"); a.status == http.StatusOK && strings.HasPrefix(c.url, e.URL) && cache != "HIT" {
			t.Errorf("%s is a %q, want a HIT, for the blob is in the cache", c.what, cache)
		}
	}
	for method, want := range map[string]int{
		http.MethodHead: http.StatusOK, http.MethodPut: http.StatusForbidden, http.MethodPost: http.StatusForbidden,
		http.MethodDelete: http.StatusForbidden, http.MethodOptions: http.StatusForbidden, "PURGE": http.StatusForbidden,
	} {
		if a, err := e.do(t.Context(), method, link, nil); err != nil || a.status != want {
			t.Errorf("%s of a link = %d, %v, want %d", method, a.status, err, want)
		}
	}
	// Other headers of clients do not reach the store, and a 404 of it is not cached.
	absent := e.signed(strings.TrimSuffix(u.Path, u.Path[len(u.Path)-4:])+"zzzz", soon)
	header := http.Header{
		"Authorization": {"Bearer token"}, "X-Http-Method-Override": {"DELETE"}, "X-Forwarded-For": {"203.0.113.7"},
		"If-None-Match": {"*"}, "Range": {"bytes=99999999-"},
	}
	before := e.asked.Load()
	for range 2 {
		if a, err := e.get(t.Context(), absent, header); err != nil || a.status != http.StatusForbidden && a.status != http.StatusNotFound {
			t.Errorf("GET of what is not there = %d, %v, want %d or %d", a.status, err, http.StatusForbidden, http.StatusNotFound)
		}
	}
	if asked := e.asked.Load() - before; asked != 2 {
		t.Errorf("the store was asked %d times for what is not there, want 2", asked)
	}
	if _, a, err := e.pull(t.Context(), data); err != nil || a.header.Get("X-Cache-Status") != "HIT" {
		t.Errorf("after all that a pull is a %q, %v, want a HIT", a.header.Get("X-Cache-Status"), err)
	}
}

// pullWith has a command write a blob to its output.
func (e *edge) pullWith(ctx context.Context, data []byte, name string, args ...string) error {
	blob := strings.TrimPrefix(e.berth.url, "http://") + "/test@" + digest.FromBytes(data).String()
	cmd := exec.CommandContext(ctx, name, append(args, blob)...)
	cmd.Env = e.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	got, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, &stderr)
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%s gives %d bytes, want the %d that were pushed", cmd, len(got), len(data))
	}
	return nil
}

// TestCDNConfig has the configuration beside the examples sign a link for each
// of the CDNs.
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
	example := filledIn(t, "berth.yaml", "/etc/berth/cloudfront.pem", rsa, "/etc/berth/", keys+"/")
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
			t.Errorf("%s: a read goes to %q, %v, want %s…", name, d.URL, err, want)
		}
	}
}
