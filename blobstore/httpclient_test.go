package blobstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/internal/trace"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

const (
	kB = 1000
	mB = 1000 * kB

	miB = 1 << 20
	giB = 1 << 30
)

// payload is the bytes of a blob, generated as they are read.
type payload struct {
	block  []byte // repeated
	size   int64
	digest digest.Digest
	other  func() digest.Digest // the sha512
}

func newPayload(seed byte, size int64) payload {
	block := make([]byte, min(size, miB))
	rand.NewChaCha8([32]byte{seed}).Read(block) //nolint:errcheck // it never fails
	p := payload{block: block, size: size}
	sum := sha256.New()
	io.Copy(sum, p.reader()) //nolint:errcheck // neither fails
	p.digest = digest.NewDigest(digest.SHA256, sum)
	p.other = sync.OnceValue(func() digest.Digest {
		d, _ := digest.SHA512.FromReader(p.reader()) // it never fails
		return d
	})
	return p
}

// sha512 returns the same bytes, to be pushed by their sha512.
func (p payload) sha512() payload {
	p.digest = p.other()
	return p
}

func (p payload) reader() io.Reader { return io.LimitReader(&repeat{block: p.block}, p.size) }

// repeat is an endless reader of a block.
type repeat struct {
	block []byte
	off   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.off:])
	r.off = (r.off + n) % len(r.block)
	return n, nil
}

// slow is a reader that pauses before each MiB.
type slow struct {
	io.Reader
	pause time.Duration
	left  int // of the MiB
}

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		time.Sleep(s.pause)
		s.left = miB
	}
	n, err := s.Reader.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// httpClient is a client of the HTTP API of two replicas that share a bucket.
// Its calls fail the test if the response has another status than expected.
type httpClient struct {
	t        *testing.T
	replicas [2]http.Handler
	replica  int // the one that gets the requests
	repo     string
	at       string // the Location of the upload in the last response that has one
	trace    *trace.Recorder
	counter  *drivertest.Counter
}

// openTraced is openClient for a bubble of synctest, in which the calls are
// traced.
func openTraced(t *testing.T, b drivers.Bucket) *httpClient {
	t.Helper()
	r := &trace.Recorder{}
	c := newClient(t, r.Wrap(drivertest.Signing(b)))
	c.trace = r
	return c
}

// openClient returns a client of this bucket, of repository library/here, whose calls are
// counted.
func openClient(t *testing.T, b drivers.Bucket) *httpClient {
	t.Helper()
	counter := &drivertest.Counter{}
	c := newClient(t, drivertest.Wrap(b, counter.Intercept))
	c.counter = counter
	return c
}

func newClient(t *testing.T, b drivers.Bucket) *httpClient {
	t.Helper()
	c := &httpClient{t: t, repo: "library/here"}
	for i := range c.replicas {
		s, err := blobstore.Open(t.Context(), b, blobstore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if c.replicas[i], err = ocihttp.New(s, ocihttp.Config{}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// openS3 returns an empty bucket with the habits of S3.
func openS3(t *testing.T, discard bool) drivers.Bucket {
	t.Helper()
	return openMemory(t, &memory.Store{Habits: memory.S3(), Discard: discard})
}

func openMemory(t *testing.T, s *memory.Store) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// elsewhere returns the same client with another repository.
func (c *httpClient) elsewhere() *httpClient {
	other := *c
	other.repo = "library/elsewhere"
	return &other
}

// otherReplica returns the same client with another replica.
func (c *httpClient) otherReplica() *httpClient {
	other := *c
	other.replica = 1 - c.replica
	return &other
}

// do makes a request, which must have this status.
func (c *httpClient) do(method, target string, body io.Reader, length int64, want int) http.Header {
	c.t.Helper()
	done := c.traced(method, target, length)
	req := httptest.NewRequestWithContext(context.WithoutCancel(c.t.Context()), method, target, body)
	req.ContentLength = length
	w := httptest.NewRecorder()
	c.replicas[c.replica].ServeHTTP(w, req)
	done(strconv.Itoa(w.Code))
	if w.Code != want {
		c.t.Fatalf("%s %s = %d %s, want %d", method, target, w.Code, w.Body, want)
	}
	if at := w.Header().Get("Location"); strings.Contains(at, "/uploads/") {
		c.at = at
	}
	return w.Header()
}

// traced enters a request in the trace, if there is one.
func (c *httpClient) traced(method, target string, length int64) (done func(outcome string)) {
	if c.trace == nil {
		return func(string) {}
	}
	path, query, _ := strings.Cut(target, "?")
	params := slices.DeleteFunc(strings.Split(query, "&"), func(p string) bool {
		return p == "" || strings.HasPrefix(p, "_state=") // a token, which differs in each run
	})
	if len(params) > 0 {
		path += "?" + strings.Join(params, "&")
	}
	text, err := url.QueryUnescape(path)
	if err != nil {
		c.t.Fatal(err)
	}
	text = method + " " + text
	if length > 0 {
		text += fmt.Sprintf(" (%d bytes)", length)
	}
	if c.replica > 0 {
		text += ", to another replica"
	}
	return c.trace.Request(text)
}

func (c *httpClient) uploads() string { return "/v2/" + c.repo + "/blobs/uploads/" }

// post starts an upload and returns its Location.
func (c *httpClient) post(alg digest.Algorithm) string {
	c.t.Helper()
	target := c.uploads()
	if alg != "" {
		target += "?digest-algorithm=" + alg.String()
	}
	return c.do(http.MethodPost, target, nil, 0, http.StatusAccepted).Get("Location")
}

// patch sends bytes to an upload and returns its Location.
func (c *httpClient) patch(at string, body io.Reader, length int64) string {
	c.t.Helper()
	return c.do(http.MethodPatch, at, body, length, http.StatusAccepted).Get("Location")
}

// put sends the rest of an upload and commits it.
func (c *httpClient) put(at string, rest payload, d digest.Digest) {
	c.t.Helper()
	body := io.Reader(bytes.NewReader(nil))
	if rest.size > 0 {
		body = rest.reader()
	}
	c.do(http.MethodPut, at+"&digest="+url.QueryEscape(d.String()), body, rest.size, http.StatusCreated)
}

// putAgain repeats the last PUT, which had no body.
func (c *httpClient) putAgain(d digest.Digest) {
	c.t.Helper()
	c.put(c.at, payload{}, d)
}

func (c *httpClient) pushByPatch(p payload) {
	c.t.Helper()
	c.put(c.patch(c.post(p.digest.Algorithm()), p.reader(), p.size), payload{}, p.digest)
}

// pushUnannounced is pushByPatch by the sha512, which only the PUT names.
func (c *httpClient) pushUnannounced(p payload) {
	c.t.Helper()
	c.put(c.patch(c.post(""), p.reader(), p.size), payload{}, p.sha512().digest)
}

func (c *httpClient) pushByPut(p payload) {
	c.t.Helper()
	c.put(c.post(""), p, p.digest)
}

func (c *httpClient) pushByPost(p payload) {
	c.t.Helper()
	c.do(http.MethodPost, c.uploads()+"?digest="+p.digest.String(), p.reader(), p.size, http.StatusCreated)
}

// pushInChunks pushes by PATCHes of one size.
func (c *httpClient) pushInChunks(p payload, size int64) {
	c.t.Helper()
	at, r := c.post(""), p.reader()
	for off := int64(0); off < p.size; off += size {
		n := min(size, p.size-off)
		at = c.patch(at, io.LimitReader(r, n), n)
	}
	c.put(at, payload{}, p.digest)
}

// status requests the status of the last upload.
func (c *httpClient) status() {
	c.t.Helper()
	c.do(http.MethodGet, c.at, nil, 0, http.StatusNoContent)
}

// cancel cancels the last upload.
func (c *httpClient) cancel() {
	c.t.Helper()
	c.do(http.MethodDelete, c.at, nil, 0, http.StatusNoContent)
}

// mount mounts a blob of this client's repository in another one.
func (c *httpClient) mount(d digest.Digest) {
	c.t.Helper()
	target := c.elsewhere().uploads() + "?mount=" + d.String() + "&from=" + url.QueryEscape(c.repo)
	c.do(http.MethodPost, target, nil, 0, http.StatusCreated)
}

func (c *httpClient) head(d digest.Digest) {
	c.t.Helper()
	c.blob(http.MethodHead, d, http.StatusOK)
}

// blob makes a request without a body to the URL of a blob.
func (c *httpClient) blob(method string, d digest.Digest, want int) {
	c.t.Helper()
	c.do(method, "/v2/"+c.repo+"/blobs/"+d.String(), nil, 0, want)
}
