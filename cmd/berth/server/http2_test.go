package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
)

// TestHTTP2WaitingUploads checks that an upload proceeds while all other streams of
// its connection have uploads that the server does not read. Their windows leave room
// for its own.
func TestHTTP2WaitingUploads(t *testing.T) {
	const size = 8 << 20
	var mu sync.Mutex
	waiting := 0
	all := make(chan struct{})
	client, url := startServer(t, testConfig(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/waits" {
			mu.Lock()
			if waiting++; waiting == http2Streams-1 {
				close(all)
			}
			mu.Unlock()
			<-r.Context().Done() // without reading the body
			return
		}
		if n, err := io.Copy(io.Discard, r.Body); n != size || err != nil {
			t.Errorf("read the body: %d bytes, %v, want %d", n, err, size)
		}
	}))
	put := func(ctx context.Context, path string, size int) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+path, bytes.NewReader(make([]byte, size)))
		if err != nil {
			return nil, err
		}
		return client.Do(req)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range http2Streams - 1 {
		wg.Go(func() {
			if res, err := put(ctx, "/waits", 1<<20); err == nil {
				res.Body.Close()
			}
		})
	}
	<-all
	time.Sleep(100 * time.Millisecond) // until the windows are full
	ctx, cancelRunner := context.WithTimeout(t.Context(), time.Minute)
	defer cancelRunner()
	res, err := put(ctx, "/runs", size)
	if err != nil {
		t.Fatalf("PUT beside waiting uploads: %v", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("PUT beside waiting uploads = %d, want 200", res.StatusCode)
	}
}

// startServer serves cfg until the end of the test, and returns a client that uses
// HTTP/2, and the server's URL.
func startServer(t *testing.T, cfg Config) (client *http.Client, url string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, cfg) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &http.Client{Transport: ocihttptest.UnencryptedHTTP2(new(http.Transport))}, "http://" + l.Addr().String()
}

// TestHTTP2SlowReaders has a client that does not read the body of its response, a
// client that does not read from its connection, and a client that needs an hour
// for its response.
func TestHTTP2SlowReaders(t *testing.T) {
	const unlimited = 1 << 30
	for _, tc := range []slowReader{
		{"body", unlimited, 24 * time.Hour, stretchTimeout},
		{"connection", 64 << 10, 0, stretchTimeout},
		{"slow", unlimited, 3600 * time.Second / 1024, 0},
	} {
		tc.test(t)
	}
}

type slowReader struct {
	name    string
	limit   int           // bytes that the client reads from the connection
	pause   time.Duration // after 8 KiB of the body
	blocked time.Duration // how long the handler is blocked; 0 if the client gets the whole response
}

func (tc slowReader) test(t *testing.T) {
	const size = 8 << 20
	var took time.Duration
	cfg := testConfig(func(w http.ResponseWriter, _ *http.Request) {
		start := time.Now()
		_, err := w.Write(make([]byte, size))
		if took = time.Since(start); (err != nil) != (tc.blocked > 0) {
			t.Errorf("%s: Write = %v, want an error: %v", tc.name, err, tc.blocked > 0)
		}
	})
	serveInBubble(t, cfg, func(l *ocihttptest.Pipes, _ context.CancelFunc) {
		transport := ocihttptest.UnencryptedHTTP2(&http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return &stuckConn{Conn: l.Dial(), left: tc.limit, closed: make(chan struct{})}, nil
		}})
		readsAll := tc.limit > size
		if readsAll {
			transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
		}
		defer transport.CloseIdleConnections()
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // t.Context belongs to no bubble
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
		if readsAll {
			got = readSlowly(res.Body, tc.pause)
		} else {
			time.Sleep(2 * time.Hour)
		}
		synctest.Wait()
		if tc.blocked > 0 && (took < tc.blocked || took > 2*tc.blocked) {
			t.Errorf("%s: the handler was blocked for %v, want %v", tc.name, took, tc.blocked)
		}
		if tc.blocked == 0 && got != size {
			t.Errorf("%s: the client got %d bytes, want %d", tc.name, got, size)
		}
	})
}

// readSlowly pauses after each 8 KiB, and returns how many bytes it has read at
// the end or an error.
func readSlowly(r io.Reader, pause time.Duration) (total int) {
	for p := make([]byte, 8<<10); ; {
		n, err := io.ReadFull(r, p)
		total += n
		if err != nil {
			return total
		}
		time.Sleep(pause)
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
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	cfg := testConfig(func(http.ResponseWriter, *http.Request) { t.Error("an incomplete preface was served") })
	serveInBubble(t, cfg, func(l *ocihttptest.Pipes, _ context.CancelFunc) {
		c := l.Dial()
		defer c.Close()
		go func() { _, _ = io.Copy(io.Discard, c) }()
		start := time.Now()
		var err error
		for i := 0; err == nil && i < 160; i++ {
			next := preface[min(i, 19)] // one byte a second, and never the end
			_, err = c.Write([]byte{next})
			time.Sleep(time.Second)
		}
		if d := time.Since(start); err == nil || d > headerTimeout+2*time.Second {
			t.Errorf("write = %v after %v, want an error after %v", err, d, headerTimeout)
		}
	})
}
