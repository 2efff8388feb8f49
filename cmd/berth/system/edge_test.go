package system

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
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
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// edge is berth on versitygw with nginx as its CDN, set up with the files of
// deploy/cdn. Only the bucket's policy allows nginx to read the bucket.
type edge struct {
	*emulator.Nginx
	berth    *process
	config   string       // berth's configuration file
	env      []string     // berth's environment, which trusts the certificate of nginx
	key      string       // signs links
	prefix   string       // of the bucket's keys, with a leading slash
	bucket   string       // the bucket's URL, for clients without credentials
	log      string       // nginx's access log
	requests atomic.Int64 // requests of nginx to the store
}

func startEdge(t *testing.T) *edge { return startEdgeWithPrefix(t, "") }

// startEdgeWithPrefix starts berth and nginx on a new bucket. All keys of berth start
// with prefix, which is written with a leading slash.
func startEdgeWithPrefix(t *testing.T, prefix string) *edge {
	t.Helper()
	store := emulator.VersityGW(t)
	bucket := store.Bucket(t)
	publish(t, store, bucket, prefix)

	e := &edge{key: "the key of links", bucket: store.Endpoint + "/" + bucket, prefix: prefix}
	origin := e.startOrigin(t, store.Endpoint, bucket)
	e.Nginx = emulator.StartNginx(t, func(dir, addr, cert, key string) string {
		e.log = filepath.Join(dir, "access.log")
		return cdnExample(t, "nginx.conf",
			"/var/cache/nginx/berth", filepath.Join(dir, "cache"),
			"^/data/", "^"+prefix+"/data/",
			"listen 443 ", "listen "+addr+" ",
			"/etc/nginx/cdn.example.com.pem", cert,
			"/etc/nginx/cdn.example.com.key", key,
			"/etc/ssl/certs/ca-certificates.crt", cert,
			"/var/log/nginx/berth.log", e.log,
			"KEY", e.key,
			"https://BUCKET.s3.REGION.amazonaws.com", origin+"/"+bucket)
	})

	e.config = filepath.Join(t.TempDir(), "berth.yaml")
	err := os.WriteFile(e.config, fmt.Appendf(nil, `
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

// startOrigin starts a proxy between nginx and the store, and returns its URL. The
// proxy counts requests and checks that nginx forwards only the path of its clients'
// requests.
func (e *edge) startOrigin(t *testing.T, endpoint, bucket string) string {
	t.Helper()
	store, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Transport: ownTransport(), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(store) }}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.requests.Add(1)
		if r.Method != http.MethodGet || !strings.HasPrefix(r.RequestURI, "/"+bucket+e.prefix+"/data/") || strings.Contains(r.RequestURI, "?") || r.UserAgent() != "" {
			t.Errorf("nginx requests %s %s with the header %v, want GET of a path under data/, without a query and User-Agent",
				r.Method, r.RequestURI, r.Header)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(origin.Close)
	return origin.URL
}

// publish sets a policy of the bucket that allows the CDN to read it.
func publish(t *testing.T, store *emulator.S3, bucket, prefix string) {
	t.Helper()
	policy := cdnExample(t, "nginx-origin.json", "BUCKET/data/", bucket+prefix+"/data/", "203.0.113.7/32", "127.0.0.1/32")
	if _, err := s3Client(store).PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: aws.String(policy)}); err != nil {
		t.Fatal(err)
	}
}

// cdnExample returns an example of deploy/cdn with some texts replaced. The example
// must contain every old text.
func cdnExample(t *testing.T, name string, oldnew ...string) string {
	t.Helper()
	return example(t, filepath.Join("cdn", name), oldnew...)
}

// example returns a file of deploy with some texts replaced. The file must contain
// every old text.
func example(t *testing.T, name string, oldnew ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(oldnew); i += 2 {
		if !bytes.Contains(data, []byte(oldnew[i])) {
			t.Fatalf("deploy/%s does not contain %q", name, oldnew[i])
		}
	}
	return strings.NewReplacer(oldnew...).Replace(string(data))
}

// signed returns a link to path that nginx accepts until the given time.
func (e *edge) signed(path string, until time.Time) string {
	sum := md5.Sum(fmt.Appendf(nil, "%d%s %s", until.Unix(), path, e.key))
	return fmt.Sprintf("%s%s?md5=%s&expires=%d", e.URL, path, base64.RawURLEncoding.EncodeToString(sum[:]), until.Unix())
}

// get fetches a URL and follows no redirects.
func (e *edge) get(ctx context.Context, url string, header http.Header) (response, error) {
	return e.do(ctx, http.MethodGet, url, header)
}

func (e *edge) do(ctx context.Context, method, url string, header http.Header) (response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return response{}, err
	}
	maps.Copy(req.Header, header)
	res, err := e.Transport.RoundTrip(req)
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, body}, err
}

// pull reads a blob as clients do: berth redirects to nginx, which serves the blob. It
// returns the link and nginx's response.
func (e *edge) pull(ctx context.Context, data []byte) (link string, got response, err error) {
	path := "/v2/test/blobs/" + digest.FromBytes(data).String()
	a, err := e.get(ctx, e.berth.url+path, nil)
	if err != nil {
		return "", response{}, err
	}
	link = a.header.Get("Location")
	if a.status != http.StatusTemporaryRedirect || !strings.HasPrefix(link, e.URL+e.prefix+"/data/") || len(a.body) != 0 {
		return "", response{}, fmt.Errorf("GET %s = %d to %q with %d bytes, want a redirect to %s%s/data/ without a body", path, a.status, link, len(a.body), e.URL, e.prefix)
	}
	got, err = e.get(ctx, link, nil)
	if err == nil && (got.status != http.StatusOK || !bytes.Equal(got.body, data)) {
		err = fmt.Errorf("GET %s = %d with %d bytes, want 200 with the %d bytes that were pushed", link, got.status, len(got.body), len(data))
	}
	return link, got, err
}

// push pushes a blob in one POST.
func (e *edge) push(ctx context.Context, data []byte) error {
	path := "/v2/test/blobs/uploads/?digest=" + digest.FromBytes(data).String()
	a, err := request(ctx, e.berth, http.MethodPost, path, bytes.NewReader(data))
	if err == nil && a.status != http.StatusCreated {
		err = fmt.Errorf("POST %s = %d %s, want %d", path, a.status, a.body, http.StatusCreated)
	}
	return err
}

// pullWith reads a blob with a command that writes it to its standard output.
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
		return fmt.Errorf("%s wrote %d bytes, want the %d bytes that were pushed", cmd, len(got), len(data))
	}
	return nil
}

// wantNoLinksInLogs checks that neither log contains a link that works.
func (e *edge) wantNoLinksInLogs(t *testing.T) {
	data, err := os.ReadFile(e.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, log, want string }{
		{"berth's log", e.berth.stderr.String(), "status=307"},
		{"nginx's log", string(data), `"GET /data/`},
	} {
		if !strings.Contains(c.log, c.want) || strings.Contains(c.log, "md5=") {
			t.Errorf("%s: want %s and no signature in\n%.2000s", c.what, c.want, c.log)
		}
	}
}
