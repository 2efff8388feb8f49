package ocihttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// habits are the two ways in which bodies go to a store: straight, and in
// parts.
func habits() map[string]memory.Habits {
	buffered := memory.S3()
	buffered.Limits.MinPart = 64 << 10
	return map[string]memory.Habits{"streamed": {}, "buffered": buffered}
}

// smallMemory gives uploads 16 segments, and parts of one.
var smallMemory = blobstore.UploadConfig{Memory: 1 << 20, PartSize: 64 << 10}

// start begins an upload and returns its Location.
func (w *wire) start(t *testing.T) string {
	t.Helper()
	w.send(t, "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	resp := w.answer(t, http.MethodPost)
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("POST = %s", resp.Status)
	}
	return resp.Header.Get("Location")
}

// status asks where an upload stands.
func (w *wire) status(t *testing.T, location string) received {
	t.Helper()
	w.send(t, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", location)
	return w.answer(t, http.MethodGet)
}

// finish sends the rest of an upload, and wants it to be taken.
func (w *wire) finish(t *testing.T, location, rest string, d digest.Digest) {
	t.Helper()
	w.send(t, "PUT %s&digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", location, d, len(rest), rest)
	if resp := w.answer(t, http.MethodPut); resp.StatusCode != http.StatusCreated {
		t.Fatalf("PUT = %s: %s", resp.Status, resp.body)
	}
}

// A client that goes away in the middle of a PATCH finds what it had sent.
func TestDisconnect(t *testing.T) {
	for name, h := range habits() {
		for _, sent := range []int{1, 1000, 200_000} {
			for _, chunked := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/%v", name, sent, chunked), func(t *testing.T) {
					t.Parallel()
					bucket := openMemory(t, &memory.Store{Habits: h})
					addr := serve(t, newHandler(t, bucket, blobstore.Config{Upload: smallMemory}, Config{}))
					content := strings.Repeat("0123456789", 30_000)
					w := dial(t, addr)
					location := w.start(t)
					if chunked {
						w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", location, sent, content[:sent])
					} else {
						w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", location, len(content), content[:sent])
					}
					w.Close()

					w = dial(t, addr)
					want := fmt.Sprintf("0-%d", sent-1)
					deadline := time.Now().Add(20 * time.Second)
					for {
						resp := w.status(t, location)
						if resp.StatusCode == http.StatusNoContent && strings.Contains(resp.Header.Get("Location"), "_state=") &&
							resp.Header.Get("Location") != location && resp.Header.Get("Range") == want {
							w.finish(t, resp.Header.Get("Location"), content[sent:], digest.FromString(content))
							return
						}
						if time.Now().After(deadline) {
							t.Fatalf("status = %s, Range %q, want %q", resp.Status, resp.Header.Get("Range"), want)
						}
						time.Sleep(5 * time.Millisecond)
					}
				})
			}
		}
	}
}

// pipeWriter is an answer to a request whose body comes by a pipe.
type pipeWriter struct {
	http.ResponseWriter
	net.Conn
}

func (w pipeWriter) Write(p []byte) (int, error) { return w.ResponseWriter.Write(p) }

// A client may be as slow as it likes, but not silent for IdleTimeout.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 2 * time.Minute
		server, client := net.Pipe()
		t.Cleanup(func() { client.Close() })
		w := pipeWriter{httptest.NewRecorder(), server}
		p := &idleReader{from: server, control: http.NewResponseController(w), timeout: timeout}
		go func() {
			for range 100 {
				time.Sleep(timeout/2 - time.Second)
				_, _ = client.Write([]byte("x")) // the reader counts them
			}
		}()
		for i := range 100 {
			if n, err := p.Read(make([]byte, 10)); n != 1 || err != nil {
				t.Fatalf("byte %d after %v: %v", i, timeout/2-time.Second, err)
			}
		}
		last := time.Now()
		n, err := p.Read(make([]byte, 10))
		if !errors.Is(err, errIdle) || n != 0 {
			t.Errorf("Read of a silent client = %d, %v, want errIdle", n, err)
		}
		if d := time.Since(last); d < timeout/2 || d > timeout {
			t.Errorf("a silent client was given up after %v, want %v or a little less", d, timeout)
		}
	})
}

// An interrupt ends the Read that goes on, and no later one begins.
func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		t.Cleanup(func() { client.Close() })
		w := pipeWriter{httptest.NewRecorder(), server}
		p := &idleReader{from: server, control: http.NewResponseController(w), timeout: time.Hour}
		began := time.Now()
		time.AfterFunc(45*time.Minute, p.interrupt) // when a Read would renew the deadline
		for range 3 {
			if _, err := p.Read(make([]byte, 10)); !errors.Is(err, errIdle) {
				t.Errorf("Read after an interrupt = %v, want errIdle", err)
			}
			if d := time.Since(began); d != 45*time.Minute {
				t.Errorf("Read returned after %v, want 45m", d)
			}
		}
	})
}

// A client that stays, but sends nothing more, is told so after IdleTimeout,
// and how much was kept.
func TestSilentClient(t *testing.T) {
	for name, h := range habits() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log lockedBuffer
			bucket := openMemory(t, &memory.Store{Habits: h})
			addr := serve(t, newHandler(t, bucket, blobstore.Config{Upload: smallMemory},
				Config{IdleTimeout: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))}))
			w := dial(t, addr)
			location := w.start(t)
			w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", location)
			w.send(t, "hello")
			resp := w.answer(t, http.MethodPatch)
			if resp.StatusCode != http.StatusRequestTimeout || !resp.Close || resp.Header.Get("Range") != "0-4" {
				t.Errorf("PATCH = %s, Close %v, Range %q, want 408, true, 0-4: %s", resp.Status, resp.Close, resp.Header.Get("Range"), resp.body)
			}
			dial(t, addr).finish(t, resp.Header.Get("Location"), "!", digest.FromString("hello!"))

			// Of a PUT nothing is kept, and the Location is still good.
			w = dial(t, addr)
			location = w.start(t)
			w.send(t, "PUT %s&digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel", location, sha256Hello)
			resp = w.answer(t, http.MethodPut)
			if resp.StatusCode != http.StatusRequestTimeout || !resp.Close || resp.Header.Get("Location") != "" {
				t.Errorf("PUT = %s, Close %v, Location %q, want 408, true, none", resp.Status, resp.Close, resp.Header.Get("Location"))
			}
			dial(t, addr).finish(t, location, "hello", sha256Hello)

			// Nor is an answer held back that is known before the body is.
			w = dial(t, addr)
			w.send(t, "PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
			if resp := w.answer(t, http.MethodPatch); resp.StatusCode != http.StatusNotFound {
				t.Errorf("PATCH of an unknown upload = %s, want 404", resp.Status)
			}
			if log.String() != "" {
				t.Errorf("log has\n%s, want nothing: it is the client's failure", log.String())
			}
		})
	}
}

// A body whose encoding is broken is the client's failure.
func TestBrokenBody(t *testing.T) {
	addr := serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{}))
	w := dial(t, addr)
	location := w.start(t)
	w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnot hexadecimal\r\n", location)
	resp := w.answer(t, http.MethodPatch)
	if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Range") != "0-4" {
		t.Errorf("PATCH = %s, Range %q, want 400, 0-4: %s", resp.Status, resp.Header.Get("Range"), resp.body)
	}
	dial(t, addr).finish(t, resp.Header.Get("Location"), "!", digest.FromString("hello!"))
}

// A client that is cut off by the service is told to come back, where to, and
// how much it has.
func TestCutOff(t *testing.T) {
	for name, h := range habits() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bucket := openMemory(t, &memory.Store{Habits: h})
			replica := func() (*blobstore.Store, string) {
				store, err := blobstore.Open(t.Context(), bucket, blobstore.Config{Upload: smallMemory})
				if err != nil {
					t.Fatal(err)
				}
				handler, err := New(store, Config{})
				if err != nil {
					t.Fatal(err)
				}
				return store, serve(t, handler)
			}
			store, addr := replica()
			w := dial(t, addr)
			location := w.start(t)
			w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhello", location)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for { // until it has begun, there is nothing to cut off
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
						store.Drain()
					}
				}
			})
			resp := w.answer(t, http.MethodPatch)
			close(stop)
			wg.Wait()
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
				t.Errorf("PATCH = %s, Retry-After %q, want 503 and one: %s", resp.Status, resp.Header.Get("Retry-After"), resp.body)
			}
			if got := resp.Header.Get("Range"); got != "0-4" {
				t.Fatalf("Range %q, want 0-4", got)
			}
			_, other := replica()
			dial(t, other).finish(t, resp.Header.Get("Location"), "!", digest.FromString("hello!"))
		})
	}
}

// While all memory is held by clients that still send, others are turned away.
func TestTooMany(t *testing.T) {
	t.Parallel()
	buffered := habits()["buffered"]
	bucket := openMemory(t, &memory.Store{Habits: buffered})
	addr := serve(t, newHandler(t, bucket, blobstore.Config{
		Upload: blobstore.UploadConfig{Memory: 1 << 20, PartSize: 64 << 10, MaxWaiting: -1},
	}, Config{}))
	refused := make(chan received, 1)
	for range 40 { // more than there are segments
		w := dial(t, addr)
		w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", w.start(t))
		go func() {
			if resp, err := http.ReadResponse(w.r, nil); err == nil {
				body, _ := io.ReadAll(resp.Body)
				select {
				case refused <- received{resp, string(body)}:
				default:
				}
			}
		}()
	}
	select {
	case resp := <-refused:
		if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || !strings.Contains(resp.body, codeTooManyRequests) {
			t.Errorf("PATCH = %s, Retry-After %q, %s, want 429 %s", resp.Status, resp.Header.Get("Retry-After"), resp.body, codeTooManyRequests)
		}
	case <-time.After(20 * time.Second):
		t.Error("40 uploads were taken, want one refused")
	}
}

// A connection goes on after an error, if what there was of a body was short.
func TestConnectionIsReused(t *testing.T) {
	addr := serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{}))
	w := dial(t, addr)
	location := w.start(t)
	for _, c := range []struct {
		request string // and what of it was not asked for
		status  int
	}{
		{"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 404},
		{"PATCH /v2/A/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
		{"PATCH " + location + " HTTP/1.1\r\nHost: x\r\nContent-Range: 7-11\r\nContent-Length: 5\r\n\r\nhello", 416},
		{"PUT " + location + "&digest=" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nother", 400},
		{"PUT /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000), 405},
		{"GET /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 404},
		{"HEAD /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"PUT " + location + "&digest=" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 201},
		{"GET /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\nRange: bytes=9-\r\n\r\n", 416},
		{"GET /v2/a/blobs/" + sha256Hello + " HTTP/1.1\r\nHost: x\r\n\r\n", 200},
	} {
		w.send(t, "%s", c.request)
		method, _, _ := strings.Cut(c.request, " ")
		resp := w.answer(t, method)
		if resp.StatusCode != c.status || resp.Close {
			t.Errorf("%.60q = %s, Close %v, want %d and the connection kept: %s", c.request, resp.Status, resp.Close, c.status, resp.body)
		}
		if method == http.MethodHead && w.r.Buffered() > 0 {
			t.Errorf("%.60q has a body", c.request)
		}
	}
}

// Requests may be sent before the answers to earlier ones have come.
func TestPipelining(t *testing.T) {
	addr := serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{}))
	w := dial(t, addr)
	location := w.start(t)
	w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Range: 7-11\r\nContent-Length: 5\r\n\r\nhello"+
		"HEAD /v2/a/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n"+
		"PUT %s&digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"+
		"GET /v2/a/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", location, sha256Hello, location, sha256Hello, sha256Hello)
	for _, want := range []struct {
		method string
		status int
	}{{"PATCH", 416}, {"HEAD", 404}, {"PUT", 201}, {"GET", 200}} {
		if resp := w.answer(t, want.method); resp.StatusCode != want.status {
			t.Errorf("%s = %s, want %d", want.method, resp.Status, want.status)
		}
	}
}

// A client that asks whether to send its body is told to only if it is wanted.
func TestExpectContinue(t *testing.T) {
	addr := serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{Upload: blobstore.UploadConfig{MaxBlobSize: 10}}, Config{}))
	location := dial(t, addr).start(t)
	const expect = " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n%s\r\n"
	for _, c := range []struct {
		target string
		length int
		header string
		want   int
	}{
		{"PATCH /v2/a/blobs/uploads/x?_state=forged", 5, "", 404},
		{"PUT " + location + "&digest=sha256:abc", 5, "", 400},
		{"PUT " + location + "&digest=" + sha256Hello, 11, "", 413},
		{"PUT " + location + "&digest=" + sha256Hello, 5, "Content-Range: 5-9\r\n", 416},
		{"PUT " + location + "&digest=" + sha256Hello, 5, "Content-Range: 0-9\r\n", 400},
		{"PUT /v2/a/blobs/" + sha256Hello, 5, "", 405},
		{"PUT " + location + "&digest=" + sha256Hello, 5, "", 100},
	} {
		w := dial(t, addr)
		w.send(t, "%s"+expect, c.target, c.length, c.header)
		resp, err := http.ReadResponse(w.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.want {
			t.Errorf("%s, %d bytes, %q = %s, want %d", c.target, c.length, c.header, resp.Status, c.want)
		}
		if resp.StatusCode != http.StatusContinue {
			continue
		}
		w.send(t, "hello")
		if resp := w.answer(t, http.MethodPut); resp.StatusCode != http.StatusCreated {
			t.Errorf("PUT = %s, want 201", resp.Status)
		}
	}
}

// All of it works over HTTP/2, where a body's deadline is its stream's.
func TestHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{IdleTimeout: 200 * time.Millisecond}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	transport, ok := s.Client().Transport.(*http.Transport)
	if !ok || transport.TLSClientConfig == nil || transport.TLSClientConfig.MinVersion > tls.VersionTLS13 {
		t.Fatalf("transport %T", s.Client().Transport)
	}
	do := func(method, target string, body io.Reader) received {
		t.Helper()
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if u, err = u.Parse(target); err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, u.String(), body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, target, err)
		}
		defer resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Fatalf("%s %s came by %s", method, target, resp.Proto)
		}
		p, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return received{resp, string(p)}
	}
	location := do("POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
	resp := do("PATCH", location, struct{ io.Reader }{strings.NewReader("hel")})
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Range") != "0-2" {
		t.Fatalf("PATCH = %s, Range %q", resp.Status, resp.Header.Get("Range"))
	}

	// A client that goes silent.
	silent, stop := io.Pipe()
	t.Cleanup(func() { _ = stop.Close() })
	go func() { _, _ = io.WriteString(stop, "l") }() // it reads no more once the answer is there
	resp = do("PATCH", resp.Header.Get("Location"), silent)
	if resp.StatusCode != http.StatusRequestTimeout || resp.Header.Get("Range") != "0-3" {
		t.Fatalf("PATCH = %s, Range %q, want 408, 0-3: %s", resp.Status, resp.Header.Get("Range"), resp.body)
	}
	resp = do("PUT", resp.Header.Get("Location")+"&digest="+sha256Hello, strings.NewReader("o"))
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("PUT = %s: %s", resp.Status, resp.body)
	}
	if resp := do("HEAD", "/v2/a/blobs/"+sha256Hello, nil); resp.StatusCode != http.StatusOK || resp.ContentLength != 5 {
		t.Errorf("HEAD = %s, Content-Length %d", resp.Status, resp.ContentLength)
	}
	if resp := do("GET", "/v2/a/blobs/"+sha256Hello, nil); resp.StatusCode != http.StatusOK || resp.body != "hello" {
		t.Errorf("GET = %s, %q", resp.Status, resp.body)
	}
}

// A panic becomes an answer with the request's id, which the log has too. One
// in the middle of an answer drops the connection, and net/http's own way to do
// that passes.
func TestPanic(t *testing.T) {
	var log lockedBuffer
	store := &memory.Store{}
	bucket := drivertest.Wrap(openMemory(t, store), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		switch {
		case c.Method == "Open" && strings.Contains(c.Key, "/links/panics"):
			panic("a bug")
		case c.Method == "Open" && strings.Contains(c.Key, "/links/aborts"):
			panic(http.ErrAbortHandler)
		}
		return do(ctx)
	})
	handler := newHandler(t, bucket, blobstore.Config{}, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	addr := serve(t, handler)

	w := dial(t, addr)
	w.send(t, "GET /v2/panics/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", sha256Hello)
	resp := w.answer(t, http.MethodGet)
	id := resp.Header.Get(RequestID)
	if resp.StatusCode != http.StatusInternalServerError || id == "" || !strings.Contains(resp.body, `"requestId":"`+id+`"`) || strings.Contains(resp.body, "a bug") {
		t.Errorf("GET = %s, %s %q, %s, want 500 with the id and no more", resp.Status, RequestID, id, resp.body)
	}
	for _, want := range []string{id, "a bug", "body_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log has no %q:\n%s", want, log.String())
		}
	}

	w = dial(t, addr)
	w.send(t, "GET /v2/aborts/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", sha256Hello)
	if resp, err := http.ReadResponse(w.r, nil); err == nil {
		t.Errorf("GET that aborts = %s, want the connection dropped", resp.Status)
	}

	defer func() {
		if p, ok := recover().(error); !ok || !errors.Is(p, http.ErrAbortHandler) {
			t.Errorf("a panic after the answer began = %v, want http.ErrAbortHandler", p)
		}
	}()
	put := httptest.NewRequestWithContext(t.Context(), "POST", "/v2/a/blobs/uploads/?digest="+sha256Hello, strings.NewReader("hello"))
	handler.ServeHTTP(httptest.NewRecorder(), put)
	handler.ServeHTTP(breaking{httptest.NewRecorder()}, httptest.NewRequestWithContext(t.Context(), "GET", "/v2/a/blobs/"+sha256Hello, nil))
}

// breaking is an answer whose body can't be written.
type breaking struct {
	http.ResponseWriter
}

func (breaking) Write([]byte) (int, error) { panic("another bug") }

// The request's id is drawn here if no handler around this one has set one.
func TestRequestID(t *testing.T) {
	h := newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{})
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v2/", nil)
	r.Header.Set(RequestID, "the client's")
	seen := map[string]bool{"": true, "the client's": true}
	for range 10 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if id := w.Header().Get(RequestID); seen[id] {
			t.Errorf("%s: %q again", RequestID, id)
		}
		seen[w.Header().Get(RequestID)] = true
	}
	w := httptest.NewRecorder()
	w.Header().Set(RequestID, "ours")
	h.ServeHTTP(w, r)
	if got := w.Header().Get(RequestID); got != "ours" {
		t.Errorf("%s = %q, want the one that was set", RequestID, got)
	}
}

func TestPublicURL(t *testing.T) {
	store, err := blobstore.Open(t.Context(), openMemory(t, &memory.Store{}), blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{"", "http://a", "https://a:5000/", "https://a/b/"} {
		if _, err := New(store, Config{PublicURL: good}); err != nil {
			t.Errorf("New(PublicURL: %q) = %v, want no error", good, err)
		}
	}
	for _, bad := range []string{"a", "/a", "ftp://a", "https://", "https://a?b", "https://a#b", "https://a\x00", "://"} {
		if _, err := New(store, Config{PublicURL: bad}); err == nil || !strings.Contains(err.Error(), "ocihttp.Config.PublicURL") {
			t.Errorf("New(PublicURL: %q) = %v, want an error that names the field", bad, err)
		}
	}
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
