package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/cmd/berth/config"
)

// speakHTTP2 makes a transport speak HTTP/2 without TLS, and nothing else.
func speakHTTP2(t *http.Transport) *http.Transport {
	t.Protocols = new(http.Protocols)
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// servingHTTP2 is serving with listen.h2c, for a client that speaks HTTP/2.
func servingHTTP2(t *testing.T, root string, env ...string) *process {
	t.Helper()
	p := serving(t, root, append(env, "BERTH_LISTEN_H2C=true")...)
	p.client = &http.Client{Transport: speakHTTP2(ownTransport())}
	return p
}

// TestHTTP2 pushes and pulls 50 MB over one connection of HTTP/2, whole and in
// ranges, while the same port serves HTTP/1.1.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	p := servingHTTP2(t, t.TempDir())
	data := randomBytes(7, 50*mB)
	location := startUpload(t, p)
	half := len(data) / 2
	location = want(t, p, http.StatusAccepted, http.MethodPatch, location, bytes.NewReader(data[:half])).header.Get("Location")
	want(t, p, http.StatusCreated, http.MethodPut, finish(location, data), bytes.NewReader(data[half:]))
	wantBlob(t, p, data)

	path := "/v2/test/blobs/" + digest.FromBytes(data).String()
	for header, part := range map[string][]byte{
		"bytes=0-0":                data[:1],
		"bytes=1000-40999999":      data[1000:41_000_000],
		"bytes=-1000000":           data[len(data)-1_000_000:],
		"bytes=49999999-100000000": data[len(data)-1:],
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", header)
		res, err := p.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusPartialContent || res.ProtoMajor != 2 || !bytes.Equal(got, part) {
			t.Errorf("Range %s = %s %s, %d bytes, %v, want 206 and %d over HTTP/2", header, res.Proto, res.Status, len(got), err, len(part))
		}
	}

	p.client = &http.Client{Transport: ownTransport()}
	wantBlob(t, p, data)
}

// TestHTTP2Refusals sends bodies that are refused before they are read. The
// answer reaches the client.
func TestHTTP2Refusals(t *testing.T) {
	t.Parallel()
	p := servingHTTP2(t, t.TempDir())
	for range 5 {
		for path, status := range map[string]int{
			"/v2/test/blobs/uploads/00000000-0000-0000-0000-000000000000?_state=x": http.StatusNotFound,
			"/v2/TEST/blobs/uploads/00000000-0000-0000-0000-000000000000":          http.StatusBadRequest,
			"/v2/": http.StatusMethodNotAllowed,
		} {
			want(t, p, status, http.MethodPatch, path, bytes.NewReader(make([]byte, 5<<20)))
		}
	}
}

// TestHTTP2IsOff: without listen.h2c the port speaks HTTP/1.1 only.
func TestHTTP2IsOff(t *testing.T) {
	t.Parallel()
	p := serving(t, t.TempDir())
	p.client = &http.Client{Transport: speakHTTP2(ownTransport())}
	if a, err := request(t.Context(), p, http.MethodGet, "/v2/", nil); err == nil {
		t.Errorf("GET /v2/ over HTTP/2 = %d, want an error", a.status)
	}
}

// TestHTTP2WaitingUploads has as many uploads over one connection as it may
// have, all of which hold back most of their bodies, and one that doesn't: their
// windows leave it its own.
func TestHTTP2WaitingUploads(t *testing.T) {
	var mu sync.Mutex
	arrived := 0
	all := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/waits" {
			mu.Lock()
			if arrived++; arrived == http2Streams-1 {
				close(all)
			}
			mu.Unlock()
			<-r.Context().Done() // it reads nothing of its body
			return
		}
		if n, err := io.Copy(io.Discard, r.Body); n != 8<<20 || err != nil {
			t.Errorf("%d bytes, %v, want all", n, err)
		}
	}
	p := httpTestServer(t, handler)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range http2Streams - 1 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, p.url+"/waits", bytes.NewReader(make([]byte, 1<<20)))
			if err != nil {
				t.Error(err)
				return
			}
			if res, err := p.client.Do(req); err == nil {
				res.Body.Close()
			}
		})
	}
	<-all
	time.Sleep(100 * time.Millisecond) // until the windows are full
	ctx, cancelRunner := context.WithTimeout(t.Context(), patience)
	defer cancelRunner()
	if a, err := request(ctx, p, http.MethodPut, "/runs", bytes.NewReader(make([]byte, 8<<20))); err != nil || a.status != http.StatusOK {
		t.Errorf("the upload that is read = %d, %v, want 200", a.status, err)
	}
}

// httpTestServer serves handler as berth does, for a client that speaks HTTP/2.
func httpTestServer(t *testing.T, handler http.HandlerFunc) *process {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Listen: config.Listen{H2C: true}, Limits: config.Limits{Request: time.Hour, Shutdown: time.Second}}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- serveHTTP(ctx, l, handler, cfg, func() {}, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &process{url: "http://" + l.Addr().String(), client: &http.Client{Transport: speakHTTP2(ownTransport())}}
}

// TestHTTP2Shutdown sends SIGTERM in the middle of two PATCHes over HTTP/2. The
// one that ends is answered; what the other one sent is kept.
func TestHTTP2Shutdown(t *testing.T) {
	t.Parallel()
	root, data := t.TempDir(), randomBytes(4, 1<<20)
	p := servingHTTP2(t, root, "BERTH_LIMITS_SHUTDOWN=1s")
	ends, endless := startUpload(t, p), startUpload(t, p)
	first, second := stall(data), stall(data)
	var wg sync.WaitGroup
	wg.Go(func() {
		a, err := request(t.Context(), p, http.MethodPatch, ends, first)
		if err != nil || a.status != http.StatusAccepted {
			t.Errorf("PATCH: %d %s, %v, want 202", a.status, a.body, err)
		}
	})
	wg.Go(func() {
		_, _ = request(t.Context(), p, http.MethodPatch, endless, second) // an answer may come or not
	})
	<-first.stalled
	<-second.stalled
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	untilRefused(t, p)
	close(first.released)
	wantExit(t, p)
	close(second.released)
	wg.Wait()

	p = serving(t, root)
	for _, location := range []string{ends, endless} {
		if _, offset := status(t, p, location); offset != len(data) {
			t.Errorf("status is %d, want %d", offset, len(data))
		}
	}
}

// TestHTTP2AnswerNobodyTakes has a client that reads no body, one that reads
// nothing of the connection, and one that is slow, with an hour for its answer.
func TestHTTP2AnswerNobodyTakes(t *testing.T) {
	const size = 8 << 20
	for _, tc := range []struct {
		name  string
		limit int           // bytes that the client takes from the connection
		each  time.Duration // for 8 KiB of the body
		after time.Duration // when the handler is stuck no longer; 0 for one that ends well
	}{
		{"body", 1 << 30, 24 * time.Hour, answerTimeout},
		{"connection", 64 << 10, 0, answerTimeout},
		{"slow", 1 << 30, 3600 * time.Second / 1024, 0},
	} {
		var took time.Duration
		handler := func(w http.ResponseWriter, _ *http.Request) {
			start := time.Now()
			_, err := w.Write(make([]byte, size))
			if took = time.Since(start); (err != nil) != (tc.after > 0) {
				t.Errorf("%s: Write: %v", tc.name, err)
			}
		}
		serveIn(t, handler, time.Second, func() {}, func(l *pipes, _ context.CancelFunc) {
			transport := speakHTTP2(&http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				return &stuckConn{Conn: l.dial(), left: tc.limit, closed: make(chan struct{})}, nil
			}})
			if tc.name != "connection" {
				transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
			}
			defer transport.CloseIdleConnections()
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // which is of no bubble
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://berth/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
				return
			}
			defer res.Body.Close()
			got := 0
			for p := make([]byte, 8<<10); tc.limit > size; {
				n, err := io.ReadFull(res.Body, p)
				got += n
				if err != nil {
					break
				}
				time.Sleep(tc.each)
			}
			if tc.limit < size {
				time.Sleep(2 * time.Hour)
			}
			synctest.Wait()
			if tc.after > 0 && (took < tc.after || took > 2*tc.after) || tc.after == 0 && got != size {
				t.Errorf("%s: the handler took %v, and the client %d bytes", tc.name, took, got)
			}
		})
	}
}

// stuckConn is a connection with a client that stops reading after some bytes.
type stuckConn struct {
	net.Conn

	left   int
	once   sync.Once
	closed chan struct{}
}

func (c *stuckConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		<-c.closed
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestHTTP2SlowPreface checks that a client that does not finish the preface of
// HTTP/2 is cut off like a client that does not finish its header.
func TestHTTP2SlowPreface(t *testing.T) {
	handler := func(http.ResponseWriter, *http.Request) { t.Error("half a preface is served") }
	serveIn(t, handler, time.Second, func() {}, func(l *pipes, _ context.CancelFunc) {
		c := l.dial()
		defer c.Close()
		go func() { _, _ = io.Copy(io.Discard, c) }()
		start := time.Now()
		var err error
		for i := range strings.Repeat("PRI * HTTP/2.0\r\n", 10) {
			if _, err = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[min(i, 19):min(i, 19)+1]); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); err == nil || d > headerTimeout+2*time.Second {
			t.Errorf("%v after %v, want an end after %v", err, d, headerTimeout)
		}
	})
}
