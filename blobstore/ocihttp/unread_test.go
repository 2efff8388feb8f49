package ocihttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/memory"
)

// aLot is more than the buffers of a connection hold, on both sides.
const aLot = 16 << 20

// answering returns a handler that reads nothing and answers with the status in
// the query, and with a body where there may be one.
func answering() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.URL.RawQuery)
		if err != nil {
			panic(err)
		}
		w.Header().Set("Location", "/here")
		if status == http.StatusNoContent {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Length", "6")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "answer")
	})
}

// Clients that send all they have before they read get their answer, and may
// use the connection again where their protocol has that.
func TestAnswerReachesWhoSendsFirst(t *testing.T) {
	t.Parallel()
	addr := serve(t, answering())
	content := make([]byte, aLot)
	chunked := func(w io.Writer) error {
		for p := content; len(p) > 0; p = p[1<<20:] {
			if _, err := fmt.Fprintf(w, "%x\r\n%s\r\n", 1<<20, p[:1<<20]); err != nil {
				return err
			}
		}
		_, err := io.WriteString(w, "0\r\n\r\n")
		return err
	}
	plain := func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
	length := fmt.Sprintf("Content-Length: %d\r\n", aLot)
	for _, c := range []struct {
		name, version, header string
		send                  func(io.Writer) error
		kept                  bool
	}{
		{"1.1", "1.1", length, plain, true},
		{"1.1, chunked", "1.1", "Transfer-Encoding: chunked\r\n", chunked, true},
		{"1.1, close", "1.1", length + "Connection: close\r\n", plain, false},
		{"1.1, chunked, close", "1.1", "Transfer-Encoding: chunked\r\nConnection: close\r\n", chunked, false},
		{"1.1, Expect", "1.1", length + "Expect: 100-continue\r\n", plain, false},
		{"1.0", "1.0", length, plain, false},
		{"1.0, keep-alive", "1.0", length + "Connection: keep-alive\r\n", plain, true},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"} {
			for _, status := range []int{201, 204, 307, 404, 500} {
				what := fmt.Sprintf("%s, %s, %d", c.name, method, status)
				if c.name != "1.1" && method != "PATCH" || c.name != "1.1, close" && status != 404 && status != 201 || method != "PATCH" && status == 201 {
					continue // what is different is seen
				}
				w := dial(t, addr)
				w.send(t, "%s /?%d HTTP/%s\r\nHost: x\r\n%s\r\n", method, status, c.version, c.header)
				if err := c.send(w); err != nil {
					t.Errorf("%s: sending the body: %v", what, err)
					continue
				}
				resp := w.answer(t, method)
				if resp.StatusCode != status || resp.Header.Get("Location") != "/here" || resp.Close == c.kept {
					t.Errorf("%s: %s, Location %q, Close %v, want %d, /here, %v", what, resp.Status, resp.Header.Get("Location"), resp.Close, status, !c.kept)
				}
				if c.kept {
					w.send(t, "GET /?200 HTTP/1.1\r\nHost: x\r\n\r\n")
					if resp := w.answer(t, "GET"); resp.StatusCode != http.StatusOK || resp.body != "answer" {
						t.Errorf("%s: and then %s, %q, want 200, answer", what, resp.Status, resp.body)
					}
				} else if rest, err := io.ReadAll(w.r); err != nil || len(rest) > 0 {
					t.Errorf("%s: %q follows the answer, %v, want its end", what, rest, err)
				}
				w.Close()
			}
		}
	}
}

// pipes is a listener for connections within the process, so that their time is
// that of a synctest bubble.
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

func (l *pipes) dial() *wire {
	client, server := net.Pipe()
	l.accept <- server
	return &wire{client, bufio.NewReader(client)}
}

// inBubble serves next with these limits, in a bubble, until the end of do.
func inBubble(t *testing.T, next http.Handler, limits Unread, do func(t *testing.T, l *pipes, stop context.CancelFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		s := &http.Server{
			Handler:     AnswerFirst(ctx, next, limits),
			IdleTimeout: time.Minute, ReadHeaderTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		}
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(l) })
		defer serving.Wait()
		defer func() { _ = s.Close() }()
		do(t, l, stop)
	})
}

// sendUntilClosed sends a piece of a body, again and again with a pause, until
// the connection is closed, and returns when that was. The piece is a request:
// none may be answered.
func (w *wire) sendUntilClosed(t *testing.T, pause, most time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	closed := make(chan time.Duration, 1)
	go func() {
		p, _ := io.ReadAll(w.r) // it ends when the connection does
		if len(p) > 0 {
			t.Errorf("of the body a request was made, which was answered with %q", p)
		}
		closed <- time.Since(start)
	}()
	for time.Since(start) < most {
		if _, err := io.WriteString(w, "GET /?200 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			break
		}
		time.Sleep(pause)
	}
	w.Close()
	return <-closed
}

// A client that does not stop sending is gone at the limits, and none of what
// it sends becomes a request.
func TestUnreadIsLimited(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		limits Unread
		pause  time.Duration // between pieces of 31 bytes
		want   time.Duration
	}{
		{"slow", 404, Unread{}, time.Second, 30 * time.Second},
		{"slow, other limit", 413, Unread{Time: time.Minute}, time.Second, time.Minute},
		{"silent", 404, Unread{}, time.Hour, 5 * time.Second},
		{"silent, other limit", 404, Unread{Silence: time.Second}, time.Hour, time.Second},
		{"many bytes", 404, Unread{Bytes: 310}, time.Second, 10 * time.Second},
		{"redirected", 307, Unread{}, time.Second, 30 * time.Second},
		{"slow, taken", 201, Unread{Request: 6 * time.Hour}, 5 * time.Second, 6 * time.Hour},
		{"silent, taken", 201, Unread{Request: 6 * time.Hour}, time.Hour, 2 * time.Minute},
		{"silent, taken, other limit", 201, Unread{Idle: time.Minute}, time.Hour, time.Minute},
		{"many bytes, taken", 201, Unread{Body: 310}, time.Second, 10 * time.Second},
	} {
		for _, framing := range []string{"Content-Length: 1000000\r\n", "Transfer-Encoding: chunked\r\n\r\n100000"} {
			t.Run(c.name+"/"+framing[:7], func(t *testing.T) {
				inBubble(t, answering(), c.limits, func(t *testing.T, l *pipes, _ context.CancelFunc) {
					w := l.dial()
					w.send(t, "PUT /?%d HTTP/1.1\r\nHost: x\r\n%s\r\n", c.status, framing)
					if resp := w.answer(t, "PUT"); resp.StatusCode != c.status {
						t.Errorf("PUT = %s, want %d", resp.Status, c.status)
					}
					if took := w.sendUntilClosed(t, c.pause, 10*time.Hour); took < c.want || took > c.want+c.pause && c.pause < time.Hour || took > c.want+5*time.Second {
						t.Errorf("the connection was closed after %v, want %v", took, c.want)
					}
				})
			})
		}
	}
}

// A body that is known to be longer than what is dropped is announced to end the
// connection, so that the client can stop.
func TestUnreadIsTooLong(t *testing.T) {
	t.Parallel()
	addr := serveLimited(t, answering(), Unread{Bytes: 1000})
	for _, c := range []struct {
		length, status int
		closed         bool
	}{{1000, 404, false}, {1001, 404, true}, {1001, 201, false}} {
		w := dial(t, addr)
		w.send(t, "PUT /?%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", c.status, c.length)
		if resp := w.answer(t, "PUT"); resp.Close != c.closed {
			t.Errorf("%d to %d bytes: Close %v, want %v", c.status, c.length, resp.Close, c.closed)
		}
	}
}

// When the server stops, so does the reading.
func TestUnreadStops(t *testing.T) {
	for _, status := range []int{404, 201} {
		inBubble(t, answering(), Unread{}, func(t *testing.T, l *pipes, stop context.CancelFunc) {
			w := l.dial()
			w.send(t, "PUT /?%d HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", status)
			w.answer(t, "PUT")
			synctest.Wait()
			start := time.Now()
			stop()
			if _, err := w.r.ReadByte(); !errors.Is(err, io.EOF) || time.Since(start) != 0 {
				t.Errorf("%d: after %v the connection reads %v, want EOF at once", status, time.Since(start), err)
			}
		})
	}
}

// A client whose body ended in the middle, as the server sees it, because its
// time was over or because its encoding is broken, gets its answer too.
func TestUnreadIsBroken(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Error("the body came to its end")
		}
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	addr := serveLimited(t, handler, Unread{Silence: time.Minute}) // this test may be slow
	for name, request := range map[string]string{
		"length":  fmt.Sprintf("Content-Length: %d\r\n\r\nhello", 5+aLot),
		"chunked": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\nhello", 5+aLot),
		"broken":  "Transfer-Encoding: chunked\r\n\r\nnot hexadecimal\r\n",
	} {
		w := dial(t, addr)
		w.send(t, "PUT / HTTP/1.1\r\nHost: x\r\n%s", request)
		time.Sleep(100 * time.Millisecond)
		if n, err := w.Write(bytes.Repeat([]byte("x"), aLot)); err != nil {
			t.Errorf("%s: sending the body: %v after %d bytes", name, err, n)
			continue
		}
		if resp := w.answer(t, "PUT"); resp.StatusCode != http.StatusServiceUnavailable || !resp.Close {
			t.Errorf("%s: PUT = %s, Close %v, want 503, true", name, resp.Status, resp.Close)
		}
	}
}

// With Expect a client learns that its body is not wanted, and no 100 follows.
func TestUnreadIsNotAskedFor(t *testing.T) {
	inBubble(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0") // net/http sees no Write
		w.WriteHeader(http.StatusCreated)
	}), Unread{Idle: time.Minute}, func(t *testing.T, l *pipes, _ context.CancelFunc) {
		w := l.dial()
		w.send(t, "PUT /?404 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
		if resp := w.answer(t, "PUT"); resp.StatusCode != http.StatusCreated || !resp.Close {
			t.Errorf("PUT = %s, Close %v, want 201, true", resp.Status, resp.Close)
		}
		start := time.Now()
		if p, err := io.ReadAll(w.r); err != nil || len(p) > 0 || time.Since(start) != time.Minute {
			t.Errorf("after the answer came %q, %v, after %v, want an end after a minute", p, err, time.Since(start))
		}
	})
}

// A handler that answers nothing has answered 200.
func TestUnreadWithoutAnswer(t *testing.T) {
	t.Parallel()
	addr := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w := dial(t, addr)
	w.send(t, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
	if resp := w.answer(t, "PUT"); resp.StatusCode != http.StatusOK || resp.ContentLength != 0 {
		t.Errorf("PUT = %s, of %d bytes, want 200, of 0", resp.Status, resp.ContentLength)
	}
	w.send(t, "helloGET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp := w.answer(t, "GET"); resp.StatusCode != http.StatusOK {
		t.Errorf("GET = %s, want 200", resp.Status)
	}
}

// waiting is a body that comes when the answer is there, or not at all.
type waiting struct {
	io.Reader
	answered chan struct{}
}

func (b waiting) Read(p []byte) (int, error) {
	<-b.answered
	return b.Reader.Read(p)
}

// Over HTTP/2 an answer comes before the body does, and its end when its client
// has stopped sending or has sent all; the connection serves more requests.
func TestUnreadOverHTTP2(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(AnswerFirst(t.Context(), answering(), Unread{Silence: 500 * time.Millisecond}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	for _, status := range []int{201, 204, 404, 500} {
		for _, sends := range []bool{true, false} {
			body := waiting{io.LimitReader(zeros{}, aLot), make(chan struct{})}
			release := sync.OnceFunc(func() { close(body.answered) })
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("%s/?%d", s.URL, status), body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if sends {
				release()
			}
			p, err := io.ReadAll(resp.Body)
			release()
			if err != nil || resp.ProtoMajor != 2 || resp.StatusCode != status || resp.Header.Get("Location") != "/here" || status != 204 && string(p) != "answer" {
				t.Errorf("%s %s, Location %q, %q, %v, want %d, /here, answer", resp.Proto, resp.Status, resp.Header.Get("Location"), p, err, status)
			}
			resp.Body.Close()
		}
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A PUT that is sent again is answered before its body has come, however long
// that takes, and its client sends all of it.
func TestSlowBodyOfRepeatedPUT(t *testing.T) {
	bucket := openMemory(t, &memory.Store{})
	handler := newHandler(t, bucket, blobstore.Config{}, Config{})
	inBubble(t, handler, Unread{Request: 6 * time.Hour}, func(t *testing.T, l *pipes, _ context.CancelFunc) {
		w := l.dial()
		content := strings.Repeat("0123456789", 100)
		first, rest := content[:100], content[100:]
		w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", w.start(t), len(first), first)
		location := w.answer(t, "PATCH").Header.Get("Location")
		w.finish(t, location, rest, digest.FromString(content))

		w.send(t, "PUT %s&digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", location, digest.FromString(content), len(rest))
		start := time.Now()
		if resp := w.answer(t, "PUT"); resp.StatusCode != http.StatusCreated || resp.Close || time.Since(start) > 0 {
			t.Errorf("the PUT again = %s, Close %v, after %v, want 201, false, at once", resp.Status, resp.Close, time.Since(start))
		}
		for _, b := range rest {
			time.Sleep(10 * time.Second)
			w.send(t, "%c", b)
		}
		w.send(t, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp := w.answer(t, "GET"); resp.StatusCode != http.StatusOK {
			t.Errorf("GET on the same connection = %s, want 200", resp.Status)
		}
	})
}

// What clients cost that send for nothing is little more than their connections.
func TestUnreadTakesLittleMemory(t *testing.T) {
	const clients = 500
	addr := serveLimited(t, answering(), Unread{Silence: time.Minute})
	inUse := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	var all []*wire
	for range clients {
		all = append(all, dial(t, addr))
	}
	before := inUse()
	for _, w := range all {
		w.send(t, "PUT /?404 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", aLot, strings.Repeat("x", 1<<16))
		if resp := w.answer(t, "PUT"); resp.StatusCode != http.StatusNotFound {
			t.Fatalf("PUT = %s, want 404", resp.Status)
		}
	}
	if each := (inUse() - before) / clients; each > 64<<10 {
		t.Errorf("a client takes %d bytes, want less than 64 KiB", each)
	} else {
		t.Logf("a client takes %d bytes", each)
	}
}
