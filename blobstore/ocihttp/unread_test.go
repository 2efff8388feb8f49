package ocihttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
	"github.com/berthhq/berth/drivers/memory"
)

// largeBody is a size that does not fit into the buffers of a connection.
const largeBody = 16 << 20

// sendPlain sends a body of largeBody bytes.
func sendPlain(w io.Writer) error {
	_, err := w.Write(make([]byte, largeBody))
	return err
}

// sendChunked sends the same body with chunked encoding.
func sendChunked(w io.Writer) error {
	chunk := make([]byte, 1<<20)
	for range largeBody / len(chunk) {
		if _, err := fmt.Fprintf(w, "%x\r\n%s\r\n", len(chunk), chunk); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "0\r\n\r\n")
	return err
}

// eagerRequest is a request of a client that sends the whole body before it reads
// the response.
type eagerRequest struct {
	name, version, header string
	send                  func(io.Writer) error
	reused                bool // the connection is kept
}

func eagerRequests() []eagerRequest {
	length := fmt.Sprintf("Content-Length: %d\r\n", largeBody)
	return []eagerRequest{
		{"1.1", "1.1", length, sendPlain, true},
		{"1.1, chunked", "1.1", "Transfer-Encoding: chunked\r\n", sendChunked, true},
		{"1.1, close", "1.1", length + "Connection: close\r\n", sendPlain, false},
		{"1.1, chunked, close", "1.1", "Transfer-Encoding: chunked\r\nConnection: close\r\n", sendChunked, false},
		{"1.1, Expect", "1.1", length + "Expect: 100-continue\r\n", sendPlain, false},
		{"1.0", "1.0", length, sendPlain, false},
		{"1.0, keep-alive", "1.0", length + "Connection: keep-alive\r\n", sendPlain, true},
	}
}

// A client that sends its whole body before it reads gets the response, and can
// reuse the connection if the protocol allows it.
func TestResponseReachesEagerClient(t *testing.T) {
	t.Parallel()
	addr := serve(t, statusHandler())
	run := func(c eagerRequest, method string, status int) {
		t.Run(fmt.Sprintf("%s/%s/%d", c.name, method, status), func(t *testing.T) {
			testEagerRequest(t, addr, c, method, status)
		})
	}
	all := eagerRequests()
	for _, c := range all {
		run(c, "PATCH", 404)
		run(c, "PATCH", 201)
	}
	plain, closing := all[0], all[2]
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
		run(plain, method, 404)
	}
	for _, status := range []int{204, 307, 500} {
		run(closing, "PATCH", status)
	}
}

func testEagerRequest(t *testing.T, addr string, c eagerRequest, method string, status int) {
	t.Helper()
	w := dial(t, addr)
	defer w.Close()
	w.send(t, "%s /?%d HTTP/%s\r\nHost: x\r\n%s\r\n", method, status, c.version, c.header)
	if err := c.send(w); err != nil {
		t.Fatalf("sending the body: %v", err)
	}
	resp := w.readResponse(t, method)
	if resp.StatusCode != status || resp.Header.Get("Location") != "/here" || resp.Close == c.reused {
		t.Errorf("response = %s, Location %q, Close %v, want %d, /here, %v", resp.Status, resp.Header.Get("Location"), resp.Close, status, !c.reused)
	}
	if !c.reused {
		if rest, err := io.ReadAll(w.r); err != nil || len(rest) > 0 {
			t.Errorf("after the response: %q, %v, want the end of the connection", rest, err)
		}
		return
	}
	w.send(t, "GET /?200 HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp := w.readResponse(t, "GET"); resp.StatusCode != http.StatusOK || resp.body != "answer" {
		t.Errorf("GET on the same connection = %s, %q, want 200, answer", resp.Status, resp.body)
	}
}

// The connection of a client that does not stop sending is closed at the limits,
// and nothing that it sends is read as a request.
func TestUnreadIsLimited(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		limits Unread
		pause  time.Duration // between pieces of 31 bytes
		want   time.Duration
	}{
		{"slow", 404, Unread{}, time.Second, 30 * time.Second},
		{"slow, other limit", 413, Unread{RejectedTime: time.Minute}, time.Second, time.Minute},
		{"idle", 404, Unread{}, time.Hour, 5 * time.Second},
		{"idle, other limit", 404, Unread{RejectedIdle: time.Second}, time.Hour, time.Second},
		{"many bytes", 404, Unread{RejectedBytes: 310}, time.Second, 10 * time.Second},
		{"redirected", 307, Unread{}, time.Second, 30 * time.Second},
		{"slow, accepted", 201, Unread{AcceptedTime: 6 * time.Hour}, 5 * time.Second, 6 * time.Hour},
		{"idle, accepted", 201, Unread{AcceptedTime: 6 * time.Hour}, time.Hour, 2 * time.Minute},
		{"idle, accepted, other limit", 201, Unread{AcceptedIdle: time.Minute}, time.Hour, time.Minute},
		{"many bytes, accepted", 201, Unread{AcceptedBytes: 310}, time.Second, 10 * time.Second},
	} {
		for _, framing := range []string{"Content-Length: 1000000\r\n", "Transfer-Encoding: chunked\r\n\r\n100000"} {
			t.Run(c.name+"/"+framing[:7], func(t *testing.T) {
				inBubble(t, statusHandler(), c.limits, func(t *testing.T, l *ocihttptest.Pipes, _ context.CancelFunc) {
					w := dialPipe(l)
					w.send(t, "PUT /?%d HTTP/1.1\r\nHost: x\r\n%s\r\n", c.status, framing)
					if resp := w.readResponse(t, "PUT"); resp.StatusCode != c.status {
						t.Errorf("PUT = %s, want %d", resp.Status, c.status)
					}
					took := w.sendUntilClosed(t, c.pause, 10*time.Hour)
					if latest := c.want + min(c.pause, 5*time.Second); took < c.want || took > latest {
						t.Errorf("the connection was closed after %v, want %v", took, c.want)
					}
				})
			})
		}
	}
}

// If a body is known to be longer than the limit, the response has Connection:
// close, so that the client can stop sending.
func TestUnreadIsTooLong(t *testing.T) {
	t.Parallel()
	addr := serveLimited(t, statusHandler(), Unread{RejectedBytes: 1000})
	for _, c := range []struct {
		length, status int
		closed         bool
	}{{1000, 404, false}, {1001, 404, true}, {1001, 201, false}} {
		w := dial(t, addr)
		w.send(t, "PUT /?%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", c.status, c.length)
		if resp := w.readResponse(t, "PUT"); resp.Close != c.closed {
			t.Errorf("%d to a body of %d bytes: Close %v, want %v", c.status, c.length, resp.Close, c.closed)
		}
	}
}

// Reading ends when the server stops.
func TestUnreadStops(t *testing.T) {
	for _, status := range []int{404, 201} {
		inBubble(t, statusHandler(), Unread{}, func(t *testing.T, l *ocihttptest.Pipes, stop context.CancelFunc) {
			w := dialPipe(l)
			w.send(t, "PUT /?%d HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", status)
			w.readResponse(t, "PUT")
			synctest.Wait()
			start := time.Now()
			stop()
			if _, err := w.r.ReadByte(); !errors.Is(err, io.EOF) || time.Since(start) != 0 {
				t.Errorf("after %d: read of the connection = %v after %v, want EOF immediately", status, err, time.Since(start))
			}
		})
	}
}

// A client also gets the response if the server could not read the end of its
// body, because of a timeout or an invalid encoding.
func TestUnreadIsBroken(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Error("the body was read to its end, want an error")
		}
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	addr := serveLimited(t, handler, Unread{RejectedIdle: time.Minute}) // the test may run slowly
	for name, request := range map[string]string{
		"length":  fmt.Sprintf("Content-Length: %d\r\n\r\nhello", 5+largeBody),
		"chunked": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\nhello", 5+largeBody),
		"broken":  "Transfer-Encoding: chunked\r\n\r\nnot hexadecimal\r\n",
	} {
		w := dial(t, addr)
		w.send(t, "PUT / HTTP/1.1\r\nHost: x\r\n%s", request)
		time.Sleep(100 * time.Millisecond)
		if n, err := w.Write(bytes.Repeat([]byte("x"), largeBody)); err != nil {
			t.Errorf("%s: sending the body: %v after %d bytes", name, err, n)
			continue
		}
		if resp := w.readResponse(t, "PUT"); resp.StatusCode != http.StatusServiceUnavailable || !resp.Close {
			t.Errorf("%s: PUT = %s, Close %v, want 503, true", name, resp.Status, resp.Close)
		}
	}
}

// A client that sends Expect gets the response, and no 100 Continue after it.
func TestUnreadIsNotAskedFor(t *testing.T) {
	inBubble(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0") // the response has no Write
		w.WriteHeader(http.StatusCreated)
	}), Unread{AcceptedIdle: time.Minute}, func(t *testing.T, l *ocihttptest.Pipes, _ context.CancelFunc) {
		w := dialPipe(l)
		w.send(t, "PUT /?404 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
		if resp := w.readResponse(t, "PUT"); resp.StatusCode != http.StatusCreated || !resp.Close {
			t.Errorf("PUT = %s, Close %v, want 201, true", resp.Status, resp.Close)
		}
		start := time.Now()
		if p, err := io.ReadAll(w.r); err != nil || len(p) > 0 || time.Since(start) != time.Minute {
			t.Errorf("after the response: %q, %v, after %v, want the end of the connection after a minute", p, err, time.Since(start))
		}
	})
}

// If the handler writes nothing, the response is 200.
func TestUnreadWithoutResponse(t *testing.T) {
	t.Parallel()
	addr := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w := dial(t, addr)
	w.send(t, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
	if resp := w.readResponse(t, "PUT"); resp.StatusCode != http.StatusOK || resp.ContentLength != 0 {
		t.Errorf("PUT = %s with %d bytes, want 200 with 0", resp.Status, resp.ContentLength)
	}
	w.send(t, "helloGET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp := w.readResponse(t, "GET"); resp.StatusCode != http.StatusOK {
		t.Errorf("GET = %s, want 200", resp.Status)
	}
}

// heldBody is a body that can be read only after it is released.
type heldBody struct {
	io.Reader

	released chan struct{}
}

func (b heldBody) Read(p []byte) (int, error) {
	<-b.released
	return b.Reader.Read(p)
}

// Over HTTP/2 a response starts before the body arrives. It ends when the client
// has sent its body or has stopped sending. The connection is then reused.
func TestUnreadOverHTTP2(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(RespondFirst(t.Context(), statusHandler(), Unread{RejectedIdle: 500 * time.Millisecond}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	for _, status := range []int{201, 204, 404, 500} {
		for _, sends := range []bool{true, false} {
			body := heldBody{io.LimitReader(zeros{}, largeBody), make(chan struct{})}
			release := sync.OnceFunc(func() { close(body.released) })
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
				t.Errorf("response = %s %s, Location %q, %q, %v, want %d, /here, answer", resp.Proto, resp.Status, resp.Header.Get("Location"), p, err, status)
			}
			resp.Body.Close()
		}
	}
}

// zeros is a reader of endless zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A repeated PUT is answered before its body arrives, and the client can send all
// of the body, however long that takes.
func TestSlowBodyOfRepeatedPUT(t *testing.T) {
	bucket := openMemory(t, &memory.Store{})
	handler := newHandler(t, bucket, blobstore.Config{}, Config{})
	inBubble(t, handler, Unread{AcceptedTime: 6 * time.Hour}, func(t *testing.T, l *ocihttptest.Pipes, _ context.CancelFunc) {
		w := dialPipe(l)
		content := strings.Repeat("0123456789", 100)
		first, rest := content[:100], content[100:]
		w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", w.start(t), len(first), first)
		location := w.readResponse(t, "PATCH").Header.Get("Location")
		w.finish(t, location, rest, digest.FromString(content))

		w.send(t, "PUT %s&digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", location, digest.FromString(content), len(rest))
		start := time.Now()
		if resp := w.readResponse(t, "PUT"); resp.StatusCode != http.StatusCreated || resp.Close || time.Since(start) > 0 {
			t.Errorf("the repeated PUT = %s, Close %v, after %v, want 201, false, immediately", resp.Status, resp.Close, time.Since(start))
		}
		for _, b := range rest {
			time.Sleep(10 * time.Second)
			w.send(t, "%c", b)
		}
		w.send(t, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp := w.readResponse(t, "GET"); resp.StatusCode != http.StatusOK {
			t.Errorf("GET on the same connection = %s, want 200", resp.Status)
		}
	})
}

// Discarding a body takes little more memory than its connection.
func TestUnreadTakesLittleMemory(t *testing.T) {
	const clients = 500
	addr := serveLimited(t, statusHandler(), Unread{RejectedIdle: time.Minute})
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
		w.send(t, "PUT /?404 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", largeBody, strings.Repeat("x", 1<<16))
		if resp := w.readResponse(t, "PUT"); resp.StatusCode != http.StatusNotFound {
			t.Fatalf("PUT = %s, want 404", resp.Status)
		}
	}
	if each := (inUse() - before) / clients; each > 64<<10 {
		t.Errorf("a client takes %d bytes, want at most 64 KiB", each)
	} else {
		t.Logf("a client takes %d bytes", each)
	}
}
