package server

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
)

// testConfig returns a configuration that serves api and discards the log.
func testConfig(api http.HandlerFunc) Config {
	return Config{
		API:          api,
		Ping:         func(context.Context) error { return nil },
		CutOff:       func() {},
		ClientAddr:   func(*http.Request) netip.Addr { return netip.Addr{} },
		Log:          slog.New(slog.DiscardHandler),
		H2C:          true,
		RequestLimit: 6 * time.Hour,
		Shutdown:     time.Second,
	}
}

// serveInBubble serves cfg in a synctest bubble until do returns or calls stop.
func serveInBubble(t *testing.T, cfg Config, do func(l *ocihttptest.Pipes, stop context.CancelFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := ocihttptest.NewPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Serve(ctx, l, cfg) }()
		do(l, stop)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// send writes a part of a request to a connection.
func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Errorf("write %q: %v", s, err)
	}
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	cfg := testConfig(func(http.ResponseWriter, *http.Request) { t.Error("an incomplete request was served") })
	serveInBubble(t, cfg, func(l *ocihttptest.Pipes, _ context.CancelFunc) {
		c := l.Dial()
		defer c.Close()
		go func() { _, _ = io.Copy(io.Discard, c) }() // a pipe has no buffer for the response
		start := time.Now()
		var err error
		for err == nil {
			_, err = io.WriteString(c, "x")
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d < headerTimeout || d > headerTimeout+2*time.Second {
			t.Errorf("a client that sends a byte a second was cut off after %v, want %v", d, headerTimeout)
		}
	})
}

func TestSlowBodyIsServed(t *testing.T) {
	cfg := testConfig(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Errorf("read the body: %v", err)
		}
	})
	serveInBubble(t, cfg, func(l *ocihttptest.Pipes, _ context.CancelFunc) {
		c := l.Dial()
		defer c.Close()
		send(t, c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
		for _, b := range "hello" {
			time.Sleep(time.Hour)
			send(t, c, string(b))
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != "hello" {
			t.Errorf("response = %q, %v, want hello", body, err)
		}
	})
}

// TestUnreadResponse checks that a client that reads nothing is dropped.
func TestUnreadResponse(t *testing.T) {
	var took time.Duration
	cfg := testConfig(func(w http.ResponseWriter, _ *http.Request) {
		start := time.Now()
		if _, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 1<<20))); err == nil {
			t.Error("Copy = nil, want an error because the client does not read")
		}
		took = time.Since(start)
	})
	serveInBubble(t, cfg, func(l *ocihttptest.Pipes, _ context.CancelFunc) {
		c := l.Dial()
		defer c.Close()
		send(t, c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(7 * time.Hour)
		synctest.Wait()
		if took != stretchTimeout {
			t.Errorf("the handler was blocked for %v, want %v", took, stretchTimeout)
		}
	})
}

// TestSlowReaders checks that a client that takes an hour to read a response gets
// all of it, from a file or not, and that a client is dropped if a stretch of the
// response takes it longer than stretchTimeout.
func TestSlowReaders(t *testing.T) {
	const size, chunk = 8 << 20, 8 << 10
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/file" {
			http.ServeFile(w, r, name)
			return
		}
		_, _ = w.Write(make([]byte, size)) // it fails for the slowest client
	})
	for _, tc := range []struct {
		path  string
		pause time.Duration // after each chunk
		all   bool          // the client gets the whole response
	}{
		{"/file", 3600 * time.Second / 1024, true},
		{"/other", 3600 * time.Second / 1024, true},
		{"/file", 30 * time.Second, false}, // 256 KiB take 16 minutes
		{"/other", 30 * time.Second, false},
	} {
		serveInBubble(t, cfg, func(l *ocihttptest.Pipes, _ context.CancelFunc) {
			c := l.Dial()
			defer c.Close()
			send(t, c, "GET "+tc.path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			got := 0
			for p := make([]byte, chunk); ; {
				n, err := io.ReadFull(c, p)
				got += n
				if err != nil {
					break
				}
				time.Sleep(tc.pause)
			}
			if (got >= size) != tc.all {
				t.Errorf("GET %s with a pause of %v after each %d bytes: got %d bytes of %d, want all: %v", tc.path, tc.pause, chunk, got, size, tc.all)
			}
		})
	}
}

// TestShutdownCutsOff checks that a request is cut off at the limit of the
// shutdown, and that its connection is closed if the request does not end even
// then.
func TestShutdownCutsOff(t *testing.T) {
	const limit = time.Minute
	for _, stubborn := range []bool{false, true} {
		var isCut chan struct{} // made in the bubble
		var stopped time.Time
		var cutAfter time.Duration
		cfg := testConfig(func(_ http.ResponseWriter, r *http.Request) {
			if !stubborn {
				<-isCut
				return
			}
			<-r.Context().Done()
		})
		cfg.Shutdown = limit
		cfg.CutOff = func() {
			cutAfter = time.Since(stopped)
			close(isCut)
		}
		serveInBubble(t, cfg, func(l *ocihttptest.Pipes, stop context.CancelFunc) {
			isCut = make(chan struct{})
			c := l.Dial()
			defer c.Close()
			send(t, c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			synctest.Wait()
			stopped = time.Now()
			stop()
			_, err := bufio.NewReader(c).ReadString('\n')
			if stubborn != (err != nil) {
				t.Errorf("stubborn %v: read the response: %v", stubborn, err)
			}
			if cutAfter != limit {
				t.Errorf("stubborn %v: cut off after %v, want %v", stubborn, cutAfter, limit)
			}
			if d := time.Since(stopped); stubborn && d < limit+cutoffTimeout || !stubborn && d > limit+cutoffTimeout {
				t.Errorf("stubborn %v: the connection ended after %v, want %v", stubborn, d, limit+cutoffTimeout)
			}
		})
	}
}

// TestShutdownDuringUnreadBody checks that a client that continues to send its body
// after the response does not keep the server running beyond the shutdown's limit.
func TestShutdownDuringUnreadBody(t *testing.T) {
	const limit = 10 * time.Second
	for _, status := range []int{http.StatusCreated, http.StatusNotFound} {
		cfg := testConfig(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(status)
		})
		cfg.Shutdown = limit
		serveInBubble(t, cfg, func(l *ocihttptest.Pipes, stop context.CancelFunc) {
			c := l.Dial()
			defer c.Close()
			send(t, c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
			if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != status {
				t.Errorf("PUT = %v, %v, want %d", res, err, status)
			}
			stopped := time.Now()
			stop()
			var err error
			for err == nil {
				time.Sleep(time.Second)
				_, err = io.WriteString(c, "x")
			}
			if d := time.Since(stopped); d < limit || d > limit+time.Second {
				t.Errorf("response %d: the connection was closed %v after the stop, want %v", status, d, limit)
			}
		})
	}
}
