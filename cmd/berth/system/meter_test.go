package system

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// wire is a way to a store that takes note of requests.
type wire struct {
	url string // of the store, by this way

	mu    sync.Mutex
	asked []string
}

// newWire lays a way to the server at endpoint. What the server fails to do is
// asked again, and is not counted: an operation costs the same at a server that
// is busy. Connections to the server are not used twice, for it may be closing
// one just when a request comes.
func newWire(t *testing.T, endpoint string) *wire {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	w, upstream := &wire{}, u.Host
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, upstream // the header Host is what was signed
		},
		ModifyResponse: func(res *http.Response) error {
			if res.StatusCode < http.StatusInternalServerError {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.asked = append(w.asked, fmt.Sprintf("%s %s = %s", res.Request.Method, res.Request.URL.RequestURI(), res.Status))
			}
			return nil
		},
	})
	t.Cleanup(proxy.Close)
	via := *u
	via.Host = proxy.Listener.Addr().String()
	w.url = via.String()
	return w
}

// meter is a client that counts the requests of its berth to the store.
type meter struct {
	t    *testing.T
	p    *process
	wire *wire
	repo string
}

// newMeter starts a server, and a berth on an empty bucket of it that has
// nothing left to do for the first time.
func newMeter(t *testing.T, s measuredStore) *meter {
	t.Helper()
	env, endpoint := s.start(t)
	w := newWire(t, endpoint)
	p, err := start(t.TempDir(), append(env, s.variable+"="+w.url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	c := &meter{t: t, p: p, wire: w, repo: "test/here"}
	b := newBlob(mB)
	c.pushByPut(b)
	c.read(http.StatusTemporaryRedirect, http.MethodGet, b.digest)
	return c
}

// forTest is the client for another test.
func (c *meter) forTest(t *testing.T) *meter {
	other := *c
	other.t = t
	return &other
}

// elsewhere is a client of another repository.
func (c *meter) elsewhere() *meter {
	other := *c
	other.repo = "test/elsewhere"
	return &other
}

// begin resets the count of requests.
func (c *meter) begin() {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	c.wire.asked = nil
}

// asked is the requests since then, and how they were answered.
func (c *meter) asked() []string {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	return slices.Clone(c.wire.asked)
}

// do makes a request, wants this status, and returns the header Location. It
// follows no redirect: who does that asks the store, and not berth.
func (c *meter) do(status int, method, path string, body io.Reader, length int64) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.p.url+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.ContentLength = length
	res, err := c.p.client.Transport.RoundTrip(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", method, path, err, &c.p.stderr)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		c.t.Fatalf("%s %s = %d %s, %v, want %d\n%s", method, path, res.StatusCode, answer, err, status, &c.p.stderr)
	}
	return res.Header.Get("Location")
}

func (c *meter) uploads() string { return "/v2/" + c.repo + "/blobs/uploads/" }

func (c *meter) post() string {
	c.t.Helper()
	return c.do(http.StatusAccepted, http.MethodPost, c.uploads(), nil, 0)
}

func (c *meter) patch(at string, body io.Reader, length int64) string {
	c.t.Helper()
	return c.do(http.StatusAccepted, http.MethodPatch, at, body, length)
}

// put sends what is left of an upload and ends it.
func (c *meter) put(at string, rest blob, d digest.Digest) {
	c.t.Helper()
	var body io.Reader
	if rest.size > 0 {
		body = rest.reader()
	}
	c.do(http.StatusCreated, http.MethodPut, at+"&digest="+d.String(), body, rest.size)
}

// pushByPatch pushes in one PATCH, and returns the location of the upload.
func (c *meter) pushByPatch(b blob) string {
	c.t.Helper()
	at := c.patch(c.post(), b.reader(), b.size)
	c.put(at, blob{}, b.digest)
	return at
}

func (c *meter) pushByPut(b blob) {
	c.t.Helper()
	c.put(c.post(), b, b.digest)
}

func (c *meter) pushByPost(b blob) {
	c.t.Helper()
	c.do(http.StatusCreated, http.MethodPost, c.uploads()+"?digest="+b.digest.String(), b.reader(), b.size)
}

func (c *meter) pushInChunks(b blob, size int64) {
	c.t.Helper()
	at, r := c.post(), b.reader()
	for off := int64(0); off < b.size; off += size {
		n := min(size, b.size-off)
		at = c.patch(at, io.LimitReader(r, n), n)
	}
	c.put(at, blob{}, b.digest)
}

// mount takes a blob over from the other repository.
func (c *meter) mount(d digest.Digest) {
	c.t.Helper()
	c.do(http.StatusCreated, http.MethodPost, fmt.Sprintf("%s?mount=%s&from=%s", c.uploads(), d, c.elsewhere().repo), nil, 0)
}

// read asks for a blob; method may be DELETE, too.
func (c *meter) read(status int, method string, d digest.Digest) {
	c.t.Helper()
	c.do(status, method, "/v2/"+c.repo+"/blobs/"+d.String(), nil, 0)
}

// readAfter counts the first read after a push.
func (c *meter) readAfter(size int64, method string, status int) {
	c.t.Helper()
	b := newBlob(size)
	c.pushByPut(b)
	c.begin()
	c.read(status, method, b.digest)
}

// readAgain counts the second read.
func (c *meter) readAgain(size int64, method string, status int) {
	c.t.Helper()
	b := newBlob(size)
	c.pushByPut(b)
	c.read(status, method, b.digest)
	c.begin()
	c.read(status, method, b.digest)
}

// blob is bytes to push, made as they are read.
type blob struct {
	block  []byte // again and again
	size   int64
	digest digest.Digest
}

// newBlob is one that no store has.
func newBlob(size int64) blob {
	b := blob{block: make([]byte, min(size, miB)), size: size}
	rand.Read(b.block)
	b.digest, _ = digest.SHA256.FromReader(b.reader()) // it never fails
	return b
}

// sha512 is the blob to be pushed by its other digest.
func (b blob) sha512() blob {
	b.digest, _ = digest.SHA512.FromReader(b.reader()) // it never fails
	return b
}

func (b blob) reader() io.Reader { return io.NewSectionReader(repeated(b.block), 0, b.size) }

// repeated is an endless repetition of a block.
type repeated []byte

func (r repeated) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		n += copy(p[n:], r[(off+int64(n))%int64(len(r)):])
	}
	return len(p), nil
}

// pausing returns one byte, and the remaining bytes after a while.
type pausing struct {
	io.Reader

	pause time.Duration // before the second read; zero once it is over
	begun bool
}

func (p *pausing) Read(data []byte) (int, error) {
	if !p.begun {
		p.begun = true
		return p.Reader.Read(data[:1])
	}
	time.Sleep(p.pause)
	p.pause = 0
	return p.Reader.Read(data)
}
