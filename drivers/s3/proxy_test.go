package s3

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// proxyServer is a proxy in front of a store, for behavior that the store
// lacks. It answers some requests itself, drops the responses to others,
// and records all requests.
type proxyServer struct {
	t       *testing.T
	backend *httputil.ReverseProxy

	mu   sync.Mutex
	play interceptor
	seen []request
}

// interceptor answers a request and reports true, or reports false to have the
// store answer it.
type interceptor func(w http.ResponseWriter, r *http.Request) bool

// request is a recorded request.
type request struct {
	operation string
	header    http.Header
}

// newProxy starts a proxy in front of the double, and returns the configuration
// for an empty bucket behind it.
func newProxy(t *testing.T) (*proxyServer, Config) {
	t.Helper()
	return newProxyOf(t, newBucketOfDouble(s3double.New(t, s3double.Knobs{})))
}

// newProxyOf starts a proxy in front of the endpoint of cfg, and returns cfg
// with the proxy's endpoint.
func newProxyOf(t *testing.T, cfg Config) (*proxyServer, Config) {
	t.Helper()
	target, err := url.Parse(cfg.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxyServer{t: t, backend: &httputil.ReverseProxy{
		// Not http.DefaultTransport: other tests close its connections.
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		// The Host does not change, because it is signed.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.Host = r.In.Host
		},
	}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	cfg.Endpoint = server.URL
	return p, cfg
}

func (p *proxyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, request{operation(r), r.Header.Clone()})
	play := p.play
	p.mu.Unlock()
	if play == nil || !play(w, r) {
		p.backend.ServeHTTP(w, r)
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
	case r.Method != http.MethodGet:
	case q.Has("uploads"):
		return "ListMultipartUploads"
	case key == "":
		return "ListObjectsV2"
	case q.Has("uploadId"):
		return "ListParts"
	}
	return map[string]string{
		http.MethodPut: "PutObject", http.MethodGet: "GetObject", http.MethodHead: "HeadObject", http.MethodDelete: "DeleteObject",
	}[r.Method]
}

// intercept sets the interceptor of requests, and forgets the requests that
// were recorded. With nil the store answers all requests.
func (p *proxyServer) intercept(play interceptor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.play, p.seen = play, nil
}

// operations returns the operations since the last call of intercept.
func (p *proxyServer) operations() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ops []string
	for _, r := range p.seen {
		ops = append(ops, r.operation)
	}
	return ops
}

// lastHeader returns the header of the last request of this operation.
func (p *proxyServer) lastHeader(operation string) http.Header {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range slices.Backward(p.seen) {
		if r.operation == operation {
			return r.header
		}
	}
	p.t.Fatalf("no request is a %s", operation)
	return nil
}

// refuse answers a request with an error of S3.
func refuse(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>refused by the test's proxy</Message></Error>", code)
	return true
}

// refuseAll refuses each request of an operation, or every request if operation
// is "".
func refuseAll(op string, status int, code string) interceptor {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return (op == "" || operation(r) == op) && refuse(w, status, code)
	}
}

// first intercepts only the first request of an operation, with f.
func first(op string, f interceptor) interceptor {
	var done sync.Once
	return func(w http.ResponseWriter, r *http.Request) (answered bool) {
		if operation(r) == op {
			done.Do(func() { answered = f(w, r) })
		}
		return answered
	}
}

// hangUp closes the connection instead of answering.
func hangUp(w http.ResponseWriter, _ *http.Request) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return refuse(w, http.StatusTeapot, err.Error()) // no test expects this
	}
	conn.Close()
	return true
}

// dropResponse lets the store handle the request, and closes the connection
// instead of answering.
func (p *proxyServer) dropResponse(w http.ResponseWriter, r *http.Request) bool {
	p.backend.ServeHTTP(httptest.NewRecorder(), r)
	return hangUp(w, r)
}
