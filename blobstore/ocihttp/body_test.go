package ocihttp

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
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

// What a client sent before it disconnected in the middle of a PATCH is stored.
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

// pipeWriter is a response to a request with a pipe as its body.
type pipeWriter struct {
	http.ResponseWriter
	net.Conn // for its deadlines
}

func (w pipeWriter) Write(p []byte) (int, error) { return w.ResponseWriter.Write(p) }

// A client may be slow, but must not be idle for IdleTimeout.
func TestIdleReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 2 * time.Minute
		server, client := net.Pipe()
		t.Cleanup(func() { client.Close() })
		w := pipeWriter{httptest.NewRecorder(), server}
		p := &idleReader{from: server, control: http.NewResponseController(w), timeout: timeout, idle: errIdle}
		go func() {
			for range 100 {
				time.Sleep(timeout/2 - time.Second)
				_, _ = client.Write([]byte("x")) // the reader counts the bytes
			}
		}()
		for i := range 100 {
			if n, err := p.Read(make([]byte, 10)); n != 1 || err != nil {
				t.Fatalf("Read of byte %d after %v = %d, %v, want 1", i, timeout/2-time.Second, n, err)
			}
		}
		last := time.Now()
		n, err := p.Read(make([]byte, 10))
		if !errors.Is(err, errIdle) || n != 0 {
			t.Errorf("Read from an idle client = %d, %v, want errIdle", n, err)
		}
		if d := time.Since(last); d < timeout/2 || d > timeout {
			t.Errorf("Read from an idle client returned after %v, want between %v and %v", d, timeout/2, timeout)
		}
	})
}

// interrupt ends the current Read and fails all later ones.
func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		t.Cleanup(func() { client.Close() })
		w := pipeWriter{httptest.NewRecorder(), server}
		p := &idleReader{from: server, control: http.NewResponseController(w), timeout: time.Hour, idle: errIdle}
		start := time.Now()
		time.AfterFunc(45*time.Minute, p.interrupt) // when a Read would extend the deadline
		for range 3 {
			if _, err := p.Read(make([]byte, 10)); !errors.Is(err, errIdle) {
				t.Errorf("Read after an interrupt = %v, want errIdle", err)
			}
			if d := time.Since(start); d != 45*time.Minute {
				t.Errorf("Read returned after %v, want 45m", d)
			}
		}
	})
}

// A client that stays connected but stops sending gets 408 after IdleTimeout. The
// response reports how much was stored.
func TestIdleClient(t *testing.T) {
	for name, h := range habits() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log ocihttptest.Buffer
			bucket := openMemory(t, &memory.Store{Habits: h})
			addr := serve(t, newHandler(t, bucket, blobstore.Config{Upload: smallMemory},
				Config{IdleTimeout: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))}))
			w := dial(t, addr)
			location := w.start(t)
			w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", location)
			w.send(t, "hello")
			resp := w.readResponse(t, http.MethodPatch)
			if resp.StatusCode != http.StatusRequestTimeout || !resp.Close || resp.Header.Get("Range") != "0-4" {
				t.Errorf("PATCH = %s, Close %v, Range %q, want 408, true, 0-4: %s", resp.Status, resp.Close, resp.Header.Get("Range"), resp.body)
			}
			dial(t, addr).finish(t, resp.Header.Get("Location"), "!", digest.FromString("hello!"))

			// Nothing of a PUT is stored, and its Location can still be used.
			w = dial(t, addr)
			location = w.start(t)
			w.send(t, "PUT %s&digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel", location, sha256Hello)
			resp = w.readResponse(t, http.MethodPut)
			if resp.StatusCode != http.StatusRequestTimeout || !resp.Close || resp.Header.Get("Location") != "" {
				t.Errorf("PUT = %s, Close %v, Location %q, want 408, true, none", resp.Status, resp.Close, resp.Header.Get("Location"))
			}
			dial(t, addr).finish(t, location, "hello", sha256Hello)

			// A response that does not depend on the body is sent immediately.
			w = dial(t, addr)
			w.send(t, "PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
			if resp := w.readResponse(t, http.MethodPatch); resp.StatusCode != http.StatusNotFound {
				t.Errorf("PATCH of an unknown upload = %s, want 404", resp.Status)
			}
			if log.String() != "" {
				t.Errorf("log has\n%s, want nothing: the client caused the failures", log.String())
			}
		})
	}
}

// A body with an invalid encoding is an error of the client.
func TestBrokenBody(t *testing.T) {
	addr := serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{}))
	w := dial(t, addr)
	location := w.start(t)
	w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnot hexadecimal\r\n", location)
	resp := w.readResponse(t, http.MethodPatch)
	if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Range") != "0-4" {
		t.Errorf("PATCH = %s, Range %q, want 400, 0-4: %s", resp.Status, resp.Header.Get("Range"), resp.body)
	}
	dial(t, addr).finish(t, resp.Header.Get("Location"), "!", digest.FromString("hello!"))
}

// If the service interrupts a PATCH, the response has what the client needs to
// resume at another replica: Retry-After, Location and Range.
func TestInterruptedPATCH(t *testing.T) {
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
				for { // again, in case the PATCH had not started
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
						store.Drain()
					}
				}
			})
			resp := w.readResponse(t, http.MethodPatch)
			close(stop)
			wg.Wait()
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
				t.Errorf("PATCH = %s, Retry-After %q, want 503 with a value: %s", resp.Status, resp.Header.Get("Retry-After"), resp.body)
			}
			if got := resp.Header.Get("Range"); got != "0-4" {
				t.Fatalf("Range %q, want 0-4", got)
			}
			_, other := replica()
			dial(t, other).finish(t, resp.Header.Get("Location"), "!", digest.FromString("hello!"))
		})
	}
}

// While slow clients hold all the memory, other clients get 429.
func TestTooMany(t *testing.T) {
	t.Parallel()
	buffered := habits()["buffered"]
	bucket := openMemory(t, &memory.Store{Habits: buffered})
	addr := serve(t, newHandler(t, bucket, blobstore.Config{
		Upload: blobstore.UploadConfig{Memory: 1 << 20, PartSize: 64 << 10, MaxWaiting: -1},
	}, Config{}))
	refused := make(chan fullResponse, 1)
	for range 40 { // more than there are segments
		w := dial(t, addr)
		w.send(t, "PATCH %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", w.start(t))
		go func() {
			if resp, err := http.ReadResponse(w.r, nil); err == nil {
				body, _ := io.ReadAll(resp.Body)
				select {
				case refused <- fullResponse{resp, string(body)}:
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
		t.Error("all of 40 uploads were accepted, want one refused")
	}
}
