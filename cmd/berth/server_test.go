package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/cmd/berth/config"
)

// pipes is a listener for connections within the process, so that their time
// is that of a synctest bubble.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	close(l.closed)
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipes) dial() net.Conn {
	client, server := net.Pipe()
	l.accept <- server
	return client
}

// serveIn serves handler until the end of do, within a bubble.
func serveIn(t *testing.T, handler http.HandlerFunc, shutdown time.Duration, cut func(), do func(l *pipes, stop context.CancelFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		cfg := &config.Config{Listen: config.Listen{H2C: true}, Limits: config.Limits{Request: 6 * time.Hour, Shutdown: shutdown}}
		done := make(chan error, 1)
		go func() { done <- serveHTTP(ctx, l, handler, cfg, cut, slog.New(slog.DiscardHandler)) }()
		do(l, stop)
		stop()
		if err := <-done; err != nil {
			t.Errorf("serveHTTP: %v", err)
		}
	})
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	handler := func(http.ResponseWriter, *http.Request) { t.Error("half a header is served") }
	serveIn(t, handler, time.Second, func() {}, func(l *pipes, _ context.CancelFunc) {
		c := l.dial()
		defer c.Close()
		go func() { _, _ = io.Copy(io.Discard, c) }() // a pipe has no buffer for the answer
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
	handler := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Errorf("reading the body: %v", err)
		}
	}
	serveIn(t, handler, time.Second, func() {}, func(l *pipes, _ context.CancelFunc) {
		c := l.dial()
		defer c.Close()
		send := func(s string) {
			if _, err := io.WriteString(c, s); err != nil {
				t.Errorf("send: %v", err)
			}
		}
		send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
		for _, b := range "hello" {
			time.Sleep(time.Hour)
			send(string(b))
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != "hello" {
			t.Errorf("answer %q, %v", body, err)
		}
	})
}

// TestAnswerNobodyTakes has a client that reads nothing.
func TestAnswerNobodyTakes(t *testing.T) {
	var took time.Duration
	handler := func(w http.ResponseWriter, _ *http.Request) {
		start := time.Now()
		if _, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 1<<20))); err == nil {
			t.Error("the answer was written")
		}
		took = time.Since(start)
	}
	serveIn(t, handler, time.Second, func() {}, func(l *pipes, _ context.CancelFunc) {
		c := l.dial()
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Error(err)
		}
		time.Sleep(7 * time.Hour)
		synctest.Wait()
		if took != answerTimeout {
			t.Errorf("the handler was stuck for %v, want %v", took, answerTimeout)
		}
	})
}

// TestAnswerIsTakenSlowly has a client that takes an hour for its answer, a file
// or not, and one that takes longer than a request may last.
func TestAnswerIsTakenSlowly(t *testing.T) {
	const size = 8 << 20
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path string
		each time.Duration // for 8 KiB
		all  bool
	}{
		{"/file", 3600 * time.Second / 1024, true},
		{"/other", 3600 * time.Second / 1024, true},
		{"/file", 30 * time.Second, false}, // 256 KiB take 16 minutes
		{"/other", 30 * time.Second, false},
	} {
		handler := func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/file" {
				http.ServeFile(w, r, name)
				return
			}
			_, _ = w.Write(make([]byte, size)) // which fails for the slowest
		}
		serveIn(t, handler, time.Second, func() {}, func(l *pipes, _ context.CancelFunc) {
			c := l.dial()
			defer c.Close()
			if _, err := io.WriteString(c, "GET "+tc.path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
				t.Error(err)
			}
			got := 0
			for p := make([]byte, 8<<10); ; {
				n, err := io.ReadFull(c, p)
				got += n
				if err != nil {
					break
				}
				time.Sleep(tc.each)
			}
			if (got >= size) != tc.all {
				t.Errorf("%s: 8 KiB in %v each came to %d bytes of %d", tc.path, tc.each, got, size)
			}
		})
	}
}

// TestShutdownCutsAfterTheLimit tests one request that continues until it is cut,
// and one that does not even end then.
func TestShutdownCutsAfterTheLimit(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		var isCut chan struct{} // made in the bubble
		handler := func(_ http.ResponseWriter, r *http.Request) {
			if !stubborn {
				<-isCut
				return
			}
			<-r.Context().Done()
		}
		const limit = time.Minute
		var cutAfter time.Duration
		var stopped time.Time
		cut := func() {
			cutAfter = time.Since(stopped)
			close(isCut)
		}
		do := func(l *pipes, stop context.CancelFunc) {
			isCut = make(chan struct{})
			c := l.dial()
			defer c.Close()
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			stopped = time.Now()
			stop()
			_, err := bufio.NewReader(c).ReadString('\n')
			if stubborn != (err != nil) {
				t.Errorf("stubborn %v: reading the answer: %v", stubborn, err)
			}
			if cutAfter != limit {
				t.Errorf("stubborn %v: cut off after %v, want %v", stubborn, cutAfter, limit)
			}
			if d := time.Since(stopped); stubborn && d < limit+lastWords || !stubborn && d > limit+lastWords {
				t.Errorf("stubborn %v: over after %v", stubborn, d)
			}
		}
		serveIn(t, handler, limit, cut, do)
	}
}

// TestShutdownEndsDropping: bodies that are read for nothing do not keep berth
// for longer than requests may.
func TestShutdownEndsDropping(t *testing.T) {
	for _, status := range []int{http.StatusCreated, http.StatusNotFound} {
		handler := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(status)
		}
		const limit = 10 * time.Second
		serveIn(t, handler, limit, func() {}, func(l *pipes, stop context.CancelFunc) {
			c := l.dial()
			defer c.Close()
			if _, err := io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"); err != nil {
				t.Error(err)
			}
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
				t.Errorf("%d: the client was closed %v after the end of service, want %v", status, d, limit)
			}
		})
	}
}
