package system

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/memory"
)

// earlyResponse is a request, and the response that berth can send before the request's
// body has arrived.
type earlyResponse struct {
	name   string
	method string
	target string
	header string // a line of the request's header, with its end of line
	more   int64  // bytes by which the body is larger than those of other requests

	status  int
	code    string   // in the response's body; empty for a success
	headers []string // of the response: a name, or a name and a value
}

// earlyResponses returns a request for each error and each success that can be known
// early. The store is [failing] for some repositories.
func earlyResponses(t *testing.T, p *process, size int64) []earlyResponse {
	t.Helper()
	const uploads = "/v2/test/blobs/uploads/"
	data := randomBytes(1, 1000)
	blob := digest.FromBytes(data).String()
	fresh := startUpload(t, p)
	patched := want(t, p, http.StatusAccepted, http.MethodPatch, startUpload(t, p), strings.NewReader(string(data[:100]))).header.Get("Location")
	want(t, p, http.StatusCreated, http.MethodPut, finish(patched, data), strings.NewReader(string(data[100:])))
	open := want(t, p, http.StatusAccepted, http.MethodPatch, startUpload(t, p), strings.NewReader("some")).header.Get("Location")
	return []earlyResponse{
		{name: "bad name", method: "PATCH", target: "/v2/A/blobs/uploads/x", status: 400, code: "NAME_INVALID"},
		{name: "bad digest", method: "PUT", target: fresh + "&digest=sha256:abc", status: 400, code: "DIGEST_INVALID"},
		{name: "bad range", method: "PATCH", target: fresh, header: "Content-Range: x\r\n", status: 400, code: "BLOB_UPLOAD_INVALID"},
		{name: "range and length", method: "PATCH", target: fresh, header: "Content-Range: 0-5\r\n", status: 400, code: "SIZE_INVALID"},
		{name: "unknown upload", method: "PATCH", target: uploads + "x?_state=forged", status: 404, code: "BLOB_UPLOAD_UNKNOWN"},
		{name: "unknown upload, single POST", method: "POST", target: uploads + "?digest=md5:abc", status: 400, code: "DIGEST_INVALID"},
		{name: "unknown path", method: "POST", target: "/nothing", status: 404, code: "UNSUPPORTED"},
		{name: "unknown blob", method: "GET", target: "/v2/other/blobs/" + blob, status: 404, code: "BLOB_UNKNOWN"},
		{name: "wrong method", method: "PUT", target: "/v2/test/blobs/" + blob, status: 405, code: "UNSUPPORTED", headers: []string{"Allow"}},
		{name: "too large", method: "PUT", target: finish(fresh, data), more: size, status: 413, code: "SIZE_INVALID"},
		{name: "out of order", method: "PATCH", target: open, header: fmt.Sprintf("Content-Range: 100-%d\r\n", 99+size), status: 416, code: "BLOB_UPLOAD_INVALID", headers: []string{"Range: 0-3", "Location"}},
		{name: "busy store", method: "DELETE", target: "/v2/busy/blobs/" + blob, status: 503, code: "UNAVAILABLE", headers: []string{"Retry-After"}},
		{name: "too many uploads", method: "DELETE", target: "/v2/many/blobs/" + blob, status: 429, code: "TOOMANYREQUESTS", headers: []string{"Retry-After"}},
		{name: "full store", method: "DELETE", target: "/v2/full/blobs/" + blob, status: 507, code: "UNAVAILABLE"},
		{name: "broken store", method: "DELETE", target: "/v2/broken/blobs/" + blob, status: 500, code: "UNKNOWN", headers: []string{"X-Request-Id"}},
		{name: "panic", method: "GET", target: "/v2/panics/blobs/" + blob, status: 500, code: "UNKNOWN", headers: []string{"X-Request-Id"}},
		{name: "PUT again", method: "PUT", target: finish(patched, data), status: 201, headers: []string{"Location: /v2/test/blobs/" + blob, "Docker-Content-Digest: " + blob}},
		{name: "mount", method: "POST", target: uploads + "?mount=" + blob + "&from=test", status: 201, headers: []string{"Location: /v2/test/blobs/" + blob}},
		{name: "start", method: "POST", target: uploads, status: 202, headers: []string{"Location"}},
		{name: "status", method: "GET", target: open, status: 204, headers: []string{"Range: 0-3", "Location"}},
	}
}

// failing makes the store fail for the repositories busy, many, full, broken and
// panics.
func failing(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
	_, repository, _ := strings.Cut(c.Key, "/links/")
	switch repository {
	case "busy":
		return drivers.ErrBusy
	case "many": // an error of berth that no store returns
		return blobstore.ErrTooMany
	case "full":
		return drivers.ErrFull
	case "broken":
		return errors.New("a broken store")
	case "panics":
		panic("a bug")
	}
	return do(ctx)
}

// routes returns addresses by which berth can be reached: its own, and those of proxies
// in front of it.
func routes(t *testing.T, berth string) map[string]string {
	t.Helper()
	defaults := func(addr string) string {
		return fmt.Sprintf("server { listen %s; client_max_body_size 0; location / { proxy_pass http://%s; } }", addr, berth)
	}
	return map[string]string{
		"direct": berth,
		"nginx": emulator.NginxProxy(t, func(addr string) string {
			return example(t, filepath.Join("proxy", "nginx.conf"), "listen 443 ssl", "listen "+addr, "127.0.0.1:5000", berth,
				"\tssl_certificate /etc/nginx/registry.example.com.pem;\n", "", "\tssl_certificate_key /etc/nginx/registry.example.com.key;\n", "")
		}),
		"nginx with defaults": emulator.NginxProxy(t, defaults),
		"HAProxy by h2c": emulator.HAProxy(t, func(addr string) string {
			return example(t, filepath.Join("proxy", "haproxy.cfg"), "bind :443 ssl crt /etc/haproxy/registry.example.com.pem", "bind "+addr, "127.0.0.1:5000 check", berth+" proto h2")
		}),
		"HAProxy": emulator.HAProxy(t, func(addr string) string {
			return example(t, filepath.Join("proxy", "haproxy.cfg"), "bind :443 ssl crt /etc/haproxy/registry.example.com.pem", "bind "+addr, "127.0.0.1:5000", berth)
		}),
	}
}

// clients are clients that send a request with a body of size bytes.
var clients = map[string]func(addr string, e earlyResponse, size int64) (*http.Response, string, error){
	"send first":          sendFirst("1.1", false),
	"send first, chunked": sendFirst("1.1", true),
	"send first, 1.0":     sendFirst("1.0", false),
	"Go":                  sendByGo(false),
	"Go, h2c":             sendByGo(true),
}

// sendByGo is the client of net/http, which reads and writes at the same time.
func sendByGo(h2c bool) func(addr string, e earlyResponse, size int64) (*http.Response, string, error) {
	return func(addr string, e earlyResponse, size int64) (*http.Response, string, error) {
		req, err := http.NewRequest(e.method, "http://"+addr+e.target, io.LimitReader(zeros{}, size))
		if err != nil {
			return nil, "", err
		}
		req.ContentLength = size
		if name, value, ok := strings.Cut(strings.TrimSpace(e.header), ": "); ok {
			req.Header.Set(name, value)
		}
		transport := ownTransport()
		defer transport.CloseIdleConnections()
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(!h2c)
		transport.Protocols.SetUnencryptedHTTP2(h2c)
		res, err := transport.RoundTrip(req)
		if err != nil {
			return nil, "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res, string(body), err
	}
}

// sendFirst is a client that sends the whole request before it reads the response.
func sendFirst(version string, chunked bool) func(addr string, e earlyResponse, size int64) (*http.Response, string, error) {
	return func(addr string, e earlyResponse, size int64) (*http.Response, string, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * patience))
		framing, piece := fmt.Sprintf("Content-Length: %d", size), make([]byte, 1<<20)
		if chunked {
			framing, piece = "Transfer-Encoding: chunked", slices.Concat([]byte("100000\r\n"), piece, []byte("\r\n"))
		}
		if _, err := fmt.Fprintf(c, "%s %s HTTP/%s\r\nHost: %s\r\n%s%s\r\n\r\n", e.method, e.target, version, addr, e.header, framing); err != nil {
			return nil, "", err
		}
		for sent := int64(0); sent < size; sent += 1 << 20 {
			if _, err := c.Write(piece); err != nil {
				return nil, "", fmt.Errorf("write after %d bytes: %w", sent, err)
			}
		}
		if chunked {
			if _, err := io.WriteString(c, "0\r\n\r\n"); err != nil {
				return nil, "", err
			}
		}
		res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: e.method})
		if err != nil {
			return nil, "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res, string(body), err
	}
}

// zeros is an endless sequence of zero bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// check returns an error if the response is not the expected one.
func (e earlyResponse) check(res *http.Response, body string, err error) error {
	switch {
	case err != nil:
		return err
	case res.StatusCode != e.status || !strings.Contains(body, e.code):
		return fmt.Errorf("%s, %s, want %d %s", res.Status, body, e.status, e.code)
	}
	for _, header := range e.headers {
		name, value, exact := strings.Cut(header, ": ")
		if got := res.Header.Get(name); got == "" || exact && got != value {
			return fmt.Errorf("%s with %s %q, want %s", res.Status, name, got, header)
		}
	}
	return nil
}

// impossible reports whether a client cannot send the request by this route.
func (e earlyResponse) impossible(route, client string) bool {
	return strings.Contains(client, "h2c") && !slices.Contains([]string{"direct", "HAProxy", "HAProxy by h2c"}, route) ||
		strings.Contains(route, "HAProxy") && strings.Contains(client, "1.0") && (e.method == "GET" || e.method == "DELETE") ||
		e.name == "range and length" && strings.Contains(client, "chunked") // there is no length
}

// testEarlyResponses sends requests that have early responses, with bodies of size bytes.
// tries is how often each client sends each request. The routes for which use returns
// true are used concurrently. If there are names, only those requests are sent.
func testEarlyResponses(t *testing.T, size int64, use func(route string) bool, tries map[string]int, names ...string) {
	bucket, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: memory.S3()}})
	if err != nil {
		t.Fatal(err)
	}
	p := serveInProcess(t, drivertest.Wrap(bucket, failing), size+size/2)
	responses := earlyResponses(t, p, size)
	if len(names) > 0 {
		responses = slices.DeleteFunc(responses, func(e earlyResponse) bool { return !slices.Contains(names, e.name) })
	}
	var all sync.WaitGroup
	defer all.Wait()
	for route, addr := range routes(t, strings.TrimPrefix(p.url, "http://")) {
		if !use(route) {
			continue
		}
		all.Go(func() {
			for client, n := range tries {
				start := time.Now()
				for _, e := range responses {
					if e.impossible(route, client) {
						continue
					}
					for try := range n {
						res, body, err := clients[client](addr, e, size+e.more)
						if err := e.check(res, body, err); err != nil {
							t.Errorf("%s, %s, %s, try %d: %v", route, client, e.name, try, err)
							break
						}
					}
				}
				t.Logf("%s, %s: %v", route, client, time.Since(start).Round(time.Millisecond))
			}
		})
	}
}

// TestEarlyResponses is TestLongEarlyResponses with few requests, and with bodies that are
// just larger than the buffers between the client and berth.
func TestEarlyResponses(t *testing.T) {
	t.Parallel()
	testEarlyResponses(t, 16<<20, anyRoute, map[string]int{"send first": 2, "Go": 2, "Go, h2c": 2}, "out of order", "PUT again")
}

func anyRoute(string) bool { return true }

// byHTTP2 reports whether a proxy uses HTTP/2 to reach berth. Such a proxy forwards a
// body in small pieces, so 300 MB can take longer than the time for which berth reads a
// refused body.
func byHTTP2(route string) bool { return strings.HasSuffix(route, "by h2c") }

// TestLongEarlyResponses checks that each client gets berth's response by each route, and
// not a broken pipe or a proxy's 502. The soak sends each request 20 times.
func TestLongEarlyResponses(t *testing.T) {
	const size, smaller = 300 << 20, 40 << 20
	byHTTP1 := func(route string) bool { return !byHTTP2(route) }
	switch {
	case os.Getenv("BERTH_TEST_SOAK") != "":
		all := map[string]int{"send first": 20, "send first, chunked": 20, "send first, 1.0": 20, "Go": 20, "Go, h2c": 20}
		testEarlyResponses(t, size, byHTTP1, all)
		testEarlyResponses(t, smaller, byHTTP2, all)
	case os.Getenv("BERTH_TEST_LONG") != "":
		once := map[string]int{"send first": 1, "send first, chunked": 1, "send first, 1.0": 1, "Go": 1, "Go, h2c": 1}
		testEarlyResponses(t, size, byHTTP1, map[string]int{"send first": 20}, "out of order", "unknown upload", "PUT again")
		testEarlyResponses(t, size, byHTTP1, once)
		testEarlyResponses(t, smaller, byHTTP2, once)
	default:
		t.Skip("NOT TESTED: early responses to large bodies (200 GB over the loopback interface); make test-long runs it (BERTH_TEST_LONG=1)")
	}
}
