package s3

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// double is a proxy in front of a real server for behavior that the server
// lacks. It answers some requests by itself, drops the answers to others, and
// records all requests.
type double struct {
	t       *testing.T
	backend *httputil.ReverseProxy

	mu   sync.Mutex
	play func(w http.ResponseWriter, r *http.Request) bool
	seen []request
}

// request is a recorded request.
type request struct {
	operation string
	header    http.Header
}

// newDouble starts a double, and returns the configuration for an empty bucket.
func newDouble(t *testing.T) (*double, Config) {
	t.Helper()
	return newDoubleOf(t, emulator.VersityGW(t))
}

// newDoubleOf is newDouble in front of the given server.
func newDoubleOf(t *testing.T, s *emulator.S3) (*double, Config) {
	t.Helper()
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	d := &double{t: t, backend: &httputil.ReverseProxy{
		// Not http.DefaultTransport: other tests close its connections.
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		// The Host is not changed, because it is signed.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.Host = r.In.Host
		},
	}}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	cfg := configOf(s, s.Bucket(t))
	cfg.Endpoint = server.URL
	return d, cfg
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.seen = append(d.seen, request{operation(r), r.Header.Clone()})
	play := d.play
	d.mu.Unlock()
	if play == nil || !play(w, r) {
		d.backend.ServeHTTP(w, r)
	}
}

// operation returns the API's name for a request.
func operation(r *http.Request) string {
	q := r.URL.Query()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodPut && q.Has("uploadId"):
		return "UploadPart"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodPost && q.Has("delete"):
		return "DeleteObjects"
	case r.Method == http.MethodGet && q.Has("uploads"):
		return "ListMultipartUploads"
	case r.Method == http.MethodGet && key == "":
		return "ListObjectsV2"
	case r.Method == http.MethodGet && q.Has("uploadId"):
		return "ListParts"
	}
	return map[string]string{
		http.MethodPut: "PutObject", http.MethodGet: "GetObject", http.MethodHead: "HeadObject", http.MethodDelete: "DeleteObject",
	}[r.Method]
}

// plays sets the behavior from now on; nil is that of the server.
func (d *double) plays(play func(w http.ResponseWriter, r *http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.play, d.seen = play, nil
}

// operations returns the operations since the last call of plays.
func (d *double) operations() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ops []string
	for _, r := range d.seen {
		ops = append(ops, r.operation)
	}
	return ops
}

// header returns the header of the last request of this operation.
func (d *double) header(operation string) http.Header {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range slices.Backward(d.seen) {
		if r.operation == operation {
			return r.header
		}
	}
	d.t.Fatalf("no %s came", operation)
	return nil
}

// fails answers a request with an error of S3.
func fails(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>The double says so</Message></Error>", code)
	return true
}

// always does it for each request of an operation (any, if empty).
func always(op string, status int, code string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return (op == "" || operation(r) == op) && fails(w, status, code)
	}
}

// once does it for the first such request only.
func once(op string, f func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	var done sync.Once
	return func(w http.ResponseWriter, r *http.Request) (played bool) {
		if operation(r) == op {
			done.Do(func() { played = f(w, r) })
		}
		return played
	}
}

// loses lets the server handle the request, and closes the connection instead
// of answering.
func (d *double) loses(w http.ResponseWriter, r *http.Request) bool {
	d.backend.ServeHTTP(httptest.NewRecorder(), r)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		d.t.Error(err)
		return true
	}
	conn.Close()
	return true
}

// connectBucket returns a bucket with the capabilities of a store without
// conditional deletes. It makes no request to the store.
func connectBucket(t *testing.T, cfg Config) (*bucket, *connection) {
	t.Helper()
	c, err := connect(t.Context(), cfg)
	if err != nil {
		t.Fatalf("connect() = %v", err)
	}
	signer, err := newSigner(t.Context(), &cfg, c.sdk)
	if err != nil {
		t.Fatalf("newSigner() = %v", err)
	}
	return newBucket(c, signer, capabilities{}), c
}

func openBucket(t *testing.T, cfg Config) drivers.Bucket {
	t.Helper()
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// create stores text under the key k.
func create(t *testing.T, b drivers.Bucket, text string) drivers.Object {
	t.Helper()
	o, err := b.Create(t.Context(), "k", drivers.NewBody([]byte(text)))
	if err != nil {
		t.Fatalf("Create = %v", err)
	}
	return o
}

func wantObject(t *testing.T, b drivers.Bucket, key, text string) {
	t.Helper()
	r, _, err := b.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatalf("Open(%q) = %v", key, err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, []byte(text)) {
		t.Errorf("Open(%q) reads %q, %v, want %q", key, got, err, text)
	}
}

// begin starts an upload of data/u, and stores its first part.
func begin(t *testing.T, b drivers.Bucket) (drivers.Upload, drivers.Part) {
	t.Helper()
	u, err := b.StartUpload(t.Context(), "data/u")
	if err != nil {
		t.Fatal(err)
	}
	part, err := b.PutPart(t.Context(), u, 1, drivers.NewBody([]byte("part")))
	if err != nil {
		t.Fatal(err)
	}
	return u, part
}
