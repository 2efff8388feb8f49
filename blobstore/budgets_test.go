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
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
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

	partSize = 16 * miB // the default of upload.part_size
)

// TestBudgets holds what each operation may cost in requests to a store that
// has the habits of Amazon S3, of a process that is warm: what a client of the
// HTTP API causes is counted at the driver's boundary. A retry of the store's
// own SDK is no business of this test, nor is signing a URL, which asks nobody.
//
// Each row is one operation at least; where a cost is said to be added to that
// of another operation, the sum is the budget.
func TestBudgets(t *testing.T) {
	const (
		dedup  = 2 // the record, and whether its data is there
		linked = 1 // the link that is there already
	)
	small, mega, large := newContent(1, 10*kB), newContent(2, mB), newContent(3, 102_400*kB)
	gigabyte, whole, kept := newContent(4, giB), newContent(5, 2*partSize), newContent(6, 20*mB)

	for _, row := range []struct {
		name   string
		budget int
		before func(c *client) // not counted
		count  func(c *client)
	}{
		{"POST", 0, nil, func(c *client) { c.post("") }},

		{"10 KB by POST+PATCH+PUT", 5, nil, func(c *client) { c.pushByPatch(small) }},
		{"10 KB by POST+PUT", 2, nil, func(c *client) { c.pushByPut(small) }},
		{"10 KB by POST", 2, nil, func(c *client) { c.pushByPost(small) }},
		{"1 MB by POST+PATCH+PUT", 6, nil, func(c *client) { c.pushByPatch(mega) }},
		{"1 MB by POST+PUT", 3, nil, func(c *client) { c.pushByPut(mega) }},
		{"1 MB by POST", 3, nil, func(c *client) { c.pushByPost(mega) }},
		{"102.4 MB by POST+PATCH+PUT", 15, nil, func(c *client) { c.pushByPatch(large) }},
		{"102.4 MB by POST+PUT", 12, nil, func(c *client) { c.pushByPut(large) }},
		{"102.4 MB by POST", 12, nil, func(c *client) { c.pushByPost(large) }},
		{"1 GiB by POST+PATCH+PUT", 71, nil, func(c *client) { c.pushByPatch(gigabyte) }},
		{"1 GiB by POST+PUT", 69, nil, func(c *client) { c.pushByPut(gigabyte) }},
		{"1 GiB by PATCHes of 16 MiB", 197, nil, func(c *client) { c.pushInChunks(gigabyte, partSize) }},

		// The PATCH takes 98 s.
		{"102.4 MB by POST+PATCH+PUT, slowly", 15 + 98/30, nil, func(c *client) {
			at := c.patch(c.post(""), &slow{Reader: large.reader(), rest: time.Second}, large.size)
			c.put(at, content{}, large.digest)
		}},

		{"PUT again, 10 KB", 3, func(c *client) { c.pushByPatch(small) },
			func(c *client) { c.put(c.at, content{}, small.digest) }},
		{"PUT again, 102.4 MB", 3, func(c *client) { c.pushByPatch(large) },
			func(c *client) { c.put(c.at, content{}, large.digest) }},
		// Only the end is left: nothing of the record before it was worth
		// freeing, so that the session has ended shows when the request fails
		// to end it.
		{"PUT again, 32 MiB that are two full parts", 3 + 1, func(c *client) { c.pushByPatch(whole) },
			func(c *client) { c.put(c.at, content{}, whole.digest) }},
		{"PUT again, 32 MiB that are two full parts, sha512", 3 + 1 + 2, func(c *client) { c.pushByPatch(whole.sha512()) },
			func(c *client) { c.put(c.at, content{}, whole.sha512().digest) }},
		{"PUT again, 32 MiB that are two full parts, dedup hit", 3 + 1 + dedup, func(c *client) {
			c.elsewhere().pushByPut(whole)
			c.pushByPatch(whole)
		}, func(c *client) { c.put(c.at, content{}, whole.digest) }},

		{"status", 2, func(c *client) { c.patch(c.post(""), small.reader(), small.size) },
			func(c *client) { c.do(http.MethodGet, c.at, nil, 0, http.StatusNoContent) }},
		{"cancel", 4, func(c *client) { c.patch(c.post(""), large.reader(), large.size) },
			func(c *client) { c.do(http.MethodDelete, c.at, nil, 0, http.StatusNoContent) }},

		{"mount", 3, func(c *client) { c.pushByPut(mega) }, func(c *client) { c.mount(mega.digest) }},
		{"mount, link already there", 3 + linked, func(c *client) { c.pushByPut(mega); c.mount(mega.digest) },
			func(c *client) { c.mount(mega.digest) }},

		{"HEAD, cold", 1, func(c *client) { c.pushByPut(mega) },
			func(c *client) { c.read(http.MethodHead, mega.digest, http.StatusOK) }},
		{"HEAD, warm", 0, func(c *client) { c.pushByPut(mega); c.read(http.MethodHead, mega.digest, http.StatusOK) },
			func(c *client) { c.read(http.MethodHead, mega.digest, http.StatusOK) }},
		{"GET of 10 KB, cold", 1, func(c *client) { c.pushByPut(small) },
			func(c *client) { c.read(http.MethodGet, small.digest, http.StatusOK) }},
		{"GET of 10 KB, warm", 0, func(c *client) { c.pushByPut(small); c.read(http.MethodGet, small.digest, http.StatusOK) },
			func(c *client) { c.read(http.MethodGet, small.digest, http.StatusOK) }},
		{"GET of 1 MB, cold", 1, func(c *client) { c.pushByPut(mega) },
			func(c *client) { c.read(http.MethodGet, mega.digest, http.StatusTemporaryRedirect) }},
		{"GET of 1 MB, warm", 0, func(c *client) { c.pushByPut(mega); c.read(http.MethodHead, mega.digest, http.StatusOK) },
			func(c *client) { c.read(http.MethodGet, mega.digest, http.StatusTemporaryRedirect) }},
		{"HEAD of an unknown blob", 1, nil, func(c *client) { c.read(http.MethodHead, mega.digest, http.StatusNotFound) }},
		{"GET of an unknown blob", 1, nil, func(c *client) { c.read(http.MethodGet, mega.digest, http.StatusNotFound) }},

		{"DELETE", 2, func(c *client) { c.pushByPut(mega) },
			func(c *client) { c.read(http.MethodDelete, mega.digest, http.StatusAccepted) }},

		{"10 KB by POST+PUT, dedup hit", 2 + dedup, func(c *client) { c.elsewhere().pushByPut(small) },
			func(c *client) { c.pushByPut(small) }},
		{"1 MB by POST+PUT, dedup hit", 3 + dedup, func(c *client) { c.elsewhere().pushByPut(mega) },
			func(c *client) { c.pushByPut(mega) }},
		{"102.4 MB by POST+PUT, dedup hit", 12 + dedup, func(c *client) { c.elsewhere().pushByPut(large) },
			func(c *client) { c.pushByPut(large) }},
		{"102.4 MB by POST+PATCH+PUT, dedup hit", 15 + dedup, func(c *client) { c.elsewhere().pushByPut(large) },
			func(c *client) { c.pushByPatch(large) }},
		{"10 KB by POST+PUT, all there", 2 + dedup + linked, func(c *client) { c.pushByPut(small) },
			func(c *client) { c.pushByPut(small) }},
		{"1 MB by POST+PUT, all there", 3 + dedup + linked, func(c *client) { c.pushByPut(mega) },
			func(c *client) { c.pushByPut(mega) }},
		{"102.4 MB by POST+PUT, all there", 12 + dedup + linked, func(c *client) { c.pushByPut(large) },
			func(c *client) { c.pushByPut(large) }},

		{"10 KB by POST+PUT, sha512", 2 + 2, nil, func(c *client) { c.pushByPut(small.sha512()) }},
		{"1 MB by POST+PUT, sha512", 3 + 2, nil, func(c *client) { c.pushByPut(mega.sha512()) }},
		{"102.4 MB by POST+PATCH+PUT, sha512", 15 + 2, nil, func(c *client) { c.pushByPatch(large.sha512()) }},
		{"102.4 MB by POST+PUT, sha512", 12 + 2, nil, func(c *client) { c.pushByPut(large.sha512()) }},
		{"10 KB by POST+PATCH+PUT, sha512 unannounced", 5 + 2, nil, func(c *client) { c.pushUnannounced(small) }},
		{"1 MB by POST+PATCH+PUT, sha512 unannounced", 6 + 2, nil, func(c *client) { c.pushUnannounced(mega) }},
		{"20 MB by POST+PATCH+PUT, sha512 unannounced", 10 + 2 + 1, func(c *client) { c.keepBytes() },
			func(c *client) { c.pushUnannounced(kept) }},
		{"PUT again, 20 MB, sha512 unannounced", 3 + 2, func(c *client) { c.keepBytes(); c.pushUnannounced(kept) },
			func(c *client) { c.put(c.at, content{}, kept.sha512().digest) }},
		{"PUT again, 10 KB, sha512", 3 + 2, func(c *client) { c.pushByPatch(small.sha512()) },
			func(c *client) { c.put(c.at, content{}, small.sha512().digest) }},
		{"HEAD, cold, sha512", 1 + 1, func(c *client) { c.pushByPut(mega.sha512()) },
			func(c *client) { c.read(http.MethodHead, mega.sha512().digest, http.StatusOK) }},
		{"HEAD, warm, sha512", 0, func(c *client) {
			c.pushByPut(mega.sha512())
			c.read(http.MethodHead, mega.sha512().digest, http.StatusOK)
		}, func(c *client) { c.read(http.MethodHead, mega.sha512().digest, http.StatusOK) }},
		{"mount, sha512", 3 + 1, func(c *client) { c.pushByPut(mega.sha512()) },
			func(c *client) { c.mount(mega.sha512().digest) }},
		{"DELETE, sha512", 2 + 1, func(c *client) { c.pushByPut(mega.sha512()) },
			func(c *client) { c.read(http.MethodDelete, mega.sha512().digest, http.StatusAccepted) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t)
				if row.before != nil {
					row.before(c)
				}
				c.counter.Reset()
				row.count(c)
				n, made := c.counter.Total(), summary(c.counter.Calls())
				switch {
				case n > row.budget:
					t.Errorf("%d requests, want at most %d: %s", n, row.budget, made)
				case n < row.budget:
					t.Logf("%d requests, %d under the budget: %s", n, row.budget-n, made)
				default:
					t.Logf("%d requests: %s", n, made)
				}
			})
		})
	}
}

// summary is what was asked of the store, and how often, in the order in which
// each was asked first.
func summary(calls []drivertest.Call) string {
	var steps []string
	times := make(map[string]int)
	for _, call := range calls {
		step := call.Method + " " + kindOf(call.Key)
		if times[step]++; times[step] == 1 {
			steps = append(steps, step)
		}
	}
	for i, step := range steps {
		if n := times[step]; n > 1 {
			steps[i] = fmt.Sprintf("%d %s", n, step)
		}
	}
	return strings.Join(steps, ", ")
}

// kindOf is what lies under a key.
func kindOf(key string) string {
	kind, rest, _ := strings.Cut(key, "/")
	switch {
	case kind == "blobs" && strings.Contains(rest, "/links/"):
		return "link"
	case kind == "blobs":
		return "record"
	case kind == "uploads":
		return "session"
	case kind == "aliases":
		return "alias"
	default:
		return kind
	}
}

// content is bytes to push, made as they are read.
type content struct {
	block  []byte // again and again
	size   int64
	digest digest.Digest
	other  func() digest.Digest // the sha512
}

func newContent(seed byte, size int64) content {
	block := make([]byte, min(size, miB))
	rand.NewChaCha8([32]byte{seed}).Read(block) //nolint:errcheck // it never fails
	c := content{block: block, size: size}
	sum := sha256.New()
	io.Copy(sum, c.reader()) //nolint:errcheck // neither fails
	c.digest = digest.NewDigest(digest.SHA256, sum)
	c.other = sync.OnceValue(func() digest.Digest {
		d, _ := digest.SHA512.FromReader(c.reader()) // it never fails
		return d
	})
	return c
}

// sha512 is the content to be pushed by its other digest.
func (c content) sha512() content {
	c.digest = c.other()
	return c
}

func (c content) reader() io.Reader { return io.LimitReader(&repeat{block: c.block}, c.size) }

type repeat struct {
	block []byte
	off   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.off:])
	r.off = (r.off + n) % len(r.block)
	return n, nil
}

// slow rests after each MiB.
type slow struct {
	io.Reader
	rest time.Duration
	left int // of the MiB
}

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		time.Sleep(s.rest)
		s.left = miB
	}
	n, err := s.Reader.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// client is one of the HTTP API; counter sees what it costs.
type client struct {
	t       *testing.T
	handler http.Handler
	counter *drivertest.Counter
	name    string
	at      string // the upload's Location that it was given last
}

// newClient opens a bucket of its own. Bytes of blobs are not kept there.
func newClient(t *testing.T) *client {
	t.Helper()
	return newClientOf(t, openS3(t, true))
}

// newClientOf is newClient for this bucket.
func newClientOf(t *testing.T, b drivers.Bucket) *client {
	t.Helper()
	c := &client{t: t, name: "library/here"}
	c.open(b)
	return c
}

// keepBytes opens a bucket that keeps the bytes of blobs, in place of the other
// one.
func (c *client) keepBytes() {
	c.t.Helper()
	c.open(openS3(c.t, false))
}

// openS3 opens a store that has the habits of S3.
func openS3(t *testing.T, discard bool) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: memory.S3(), Discard: discard}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (c *client) open(b drivers.Bucket) {
	t := c.t
	t.Helper()
	counter := &drivertest.Counter{}
	s, err := blobstore.Open(t.Context(), drivertest.Signing(drivertest.Wrap(b, counter.Intercept)), blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := ocihttp.New(s, ocihttp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c.handler, c.counter = h, counter
}

// elsewhere is a client of another repository.
func (c *client) elsewhere() *client {
	other := *c
	other.name = "library/elsewhere"
	return &other
}

// do makes a request, and wants this answer.
func (c *client) do(method, target string, body io.Reader, length int64, want int) http.Header {
	c.t.Helper()
	req := httptest.NewRequestWithContext(context.WithoutCancel(c.t.Context()), method, target, body)
	req.ContentLength = length
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, req)
	if w.Code != want {
		c.t.Fatalf("%s %s = %d %s, want %d", method, target, w.Code, w.Body, want)
	}
	if at := w.Header().Get("Location"); strings.Contains(at, "/uploads/") {
		c.at = at
	}
	return w.Header()
}

func (c *client) uploads() string { return "/v2/" + c.name + "/blobs/uploads/" }

// post begins an upload and returns its Location.
func (c *client) post(alg digest.Algorithm) string {
	c.t.Helper()
	target := c.uploads()
	if alg != "" {
		target += "?digest-algorithm=" + alg.String()
	}
	return c.do(http.MethodPost, target, nil, 0, http.StatusAccepted).Get("Location")
}

func (c *client) patch(at string, body io.Reader, length int64) string {
	c.t.Helper()
	return c.do(http.MethodPatch, at, body, length, http.StatusAccepted).Get("Location")
}

// put sends what is left of an upload and ends it.
func (c *client) put(at string, rest content, d digest.Digest) {
	c.t.Helper()
	body := io.Reader(bytes.NewReader(nil))
	if rest.size > 0 {
		body = rest.reader()
	}
	c.do(http.MethodPut, at+"&digest="+url.QueryEscape(d.String()), body, rest.size, http.StatusCreated)
}

func (c *client) pushByPatch(p content) {
	c.t.Helper()
	c.put(c.patch(c.post(p.digest.Algorithm()), p.reader(), p.size), content{}, p.digest)
}

// pushUnannounced is pushByPatch by the sha512, which only the PUT names.
func (c *client) pushUnannounced(p content) {
	c.t.Helper()
	c.put(c.patch(c.post(""), p.reader(), p.size), content{}, p.sha512().digest)
}

func (c *client) pushByPut(p content) {
	c.t.Helper()
	c.put(c.post(""), p, p.digest)
}

func (c *client) pushByPost(p content) {
	c.t.Helper()
	c.do(http.MethodPost, c.uploads()+"?digest="+p.digest.String(), p.reader(), p.size, http.StatusCreated)
}

func (c *client) pushInChunks(p content, size int64) {
	c.t.Helper()
	at, r := c.post(""), p.reader()
	for off := int64(0); off < p.size; off += size {
		n := min(size, p.size-off)
		at = c.patch(at, io.LimitReader(r, n), n)
	}
	c.put(at, content{}, p.digest)
}

// mount takes the blob over from this client's repository into another one.
func (c *client) mount(d digest.Digest) {
	c.t.Helper()
	c.do(http.MethodPost, c.elsewhere().uploads()+"?mount="+d.String()+"&from="+url.QueryEscape(c.name), nil, 0, http.StatusCreated)
}

// read asks for a blob, and wants this answer; method may be DELETE, too.
func (c *client) read(method string, d digest.Digest, want int) {
	c.t.Helper()
	c.do(method, "/v2/"+c.name+"/blobs/"+d.String(), nil, 0, want)
}
