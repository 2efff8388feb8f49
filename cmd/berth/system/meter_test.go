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

// recorder is a proxy to a store that records requests.
type recorder struct {
	url string

	mu       sync.Mutex
	requests []string // with the status of their responses
}

// newRecorder starts a proxy to the store at endpoint. It does not record requests that
// fail with 5xx, because berth repeats them: an operation costs the same at a busy
// store. It uses no connection twice, because the store could close one when a request
// arrives.
func newRecorder(t *testing.T, endpoint string) *recorder {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	w, upstream := &recorder{}, u.Host
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, upstream // the signature covers the Host header
		},
		ModifyResponse: func(res *http.Response) error {
			if res.StatusCode < http.StatusInternalServerError {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.requests = append(w.requests, fmt.Sprintf("%s %s = %s", res.Request.Method, res.Request.URL.RequestURI(), res.Status))
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

// meter is a client of a berth. It counts the requests of berth to the store.
type meter struct {
	t     *testing.T
	p     *process
	peer  *process // another one on the same bucket
	store *recorder
	repo  string
}

// newMeter starts a store and two berths on an empty bucket. They have already made the
// requests that they make only once.
func newMeter(t *testing.T, s measuredStore) *meter {
	t.Helper()
	env, endpoint := s.start(t)
	store := newRecorder(t, endpoint)
	c := &meter{t: t, store: store, repo: "test/here"}
	for _, p := range []**process{&c.p, &c.peer} {
		var err error
		if *p, err = start(t.TempDir(), append(env, s.variable+"="+store.url)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := (*p).stop(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, c := range []*meter{c, c.atPeer()} {
		b := newBlob(mB)
		c.pushByPut(b)
		c.read(http.StatusTemporaryRedirect, http.MethodGet, b.digest)
	}
	return c
}

// atPeer returns a client of the other berth. What it pushes and reads is not in the
// caches of this one.
func (c *meter) atPeer() *meter {
	other := *c
	other.p, other.peer = c.peer, c.p
	return &other
}

// forTest returns the client for another test.
func (c *meter) forTest(t *testing.T) *meter {
	other := *c
	other.t = t
	return &other
}

// elsewhere returns a client of another repository.
func (c *meter) elsewhere() *meter {
	other := *c
	other.repo = "test/elsewhere"
	return &other
}

// reset starts a new count.
func (c *meter) reset() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.requests = nil
}

// requests returns the requests to the store since the last reset.
func (c *meter) requests() []string {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	return slices.Clone(c.store.requests)
}

// do sends a request, requires this status, and returns the Location header. It follows
// no redirects, because these requests do not reach berth.
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
	response, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		c.t.Fatalf("%s %s = %d %s, %v, want %d\n%s", method, path, res.StatusCode, response, err, status, &c.p.stderr)
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

// put sends the rest of an upload and commits it.
func (c *meter) put(at string, rest blob, d digest.Digest) {
	c.t.Helper()
	var body io.Reader
	if rest.size > 0 {
		body = rest.reader()
	}
	c.do(http.StatusCreated, http.MethodPut, at+"&digest="+d.String(), body, rest.size)
}

// pushByPatch pushes a blob in one PATCH and returns the location of the upload.
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

// mount mounts a blob from the other repository.
func (c *meter) mount(d digest.Digest) {
	c.t.Helper()
	c.do(http.StatusCreated, http.MethodPost, fmt.Sprintf("%s?mount=%s&from=%s", c.uploads(), d, c.elsewhere().repo), nil, 0)
}

// read sends a GET, HEAD or DELETE of a blob.
func (c *meter) read(status int, method string, d digest.Digest) {
	c.t.Helper()
	c.do(status, method, "/v2/"+c.repo+"/blobs/"+d.String(), nil, 0)
}

// readAfter counts the requests of the first read after a push to another berth.
func (c *meter) readAfter(size int64, method string, status int) {
	c.t.Helper()
	b := newBlob(size)
	c.atPeer().pushByPut(b)
	c.reset()
	c.read(status, method, b.digest)
}

// readAgain counts the requests of the second read.
func (c *meter) readAgain(size int64, method string, status int) {
	c.t.Helper()
	b := newBlob(size)
	c.pushByPut(b)
	c.read(status, method, b.digest)
	c.reset()
	c.read(status, method, b.digest)
}

// blob is the content of a blob, generated while it is read.
type blob struct {
	block  []byte // repeated
	size   int64
	digest digest.Digest
}

// newBlob returns a blob that no store has.
func newBlob(size int64) blob {
	b := blob{block: make([]byte, min(size, miB)), size: size}
	rand.Read(b.block)
	b.digest, _ = digest.SHA256.FromReader(b.reader()) // it cannot fail
	return b
}

// sha512 returns the blob with its sha512 digest.
func (b blob) sha512() blob {
	b.digest, _ = digest.SHA512.FromReader(b.reader()) // it cannot fail
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

// pausingReader returns one byte, and the rest after a pause.
type pausingReader struct {
	io.Reader

	pause   time.Duration // before the second read; zero after it
	started bool
}

func (p *pausingReader) Read(data []byte) (int, error) {
	if !p.started {
		p.started = true
		return p.Reader.Read(data[:1])
	}
	time.Sleep(p.pause)
	p.pause = 0
	return p.Reader.Read(data)
}
