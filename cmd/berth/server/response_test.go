package server

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// connection is the ResponseWriter of a connection. It records the sizes of writes
// and their deadlines. Like net/http's, its ReadFrom sends a file from the kernel
// if the file is in an io.LimitedReader.
type connection struct {
	*httptest.ResponseRecorder

	writes    []int // bytes of each Write
	files     []int64
	deadlines []time.Time
}

func (c *connection) Write(p []byte) (int, error) {
	c.writes = append(c.writes, len(p))
	return c.ResponseRecorder.Write(p)
}

func (c *connection) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			c.files = append(c.files, limited.N)
			return c.Body.ReadFrom(r)
		}
	}
	return 0, errors.New("not a file: the client's deadline would include a slow reader")
}

func (c *connection) SetWriteDeadline(at time.Time) error {
	c.deadlines = append(c.deadlines, at)
	return nil
}

// serveOn serves one request with handler on a new connection. The request may last
// for limit.
func serveOn(t *testing.T, limit time.Duration, handler http.HandlerFunc) *connection {
	t.Helper()
	cfg := testConfig(handler)
	cfg.RequestLimit = limit - cutoffTimeout
	c := &connection{ResponseRecorder: httptest.NewRecorder()}
	server := newServer(t.Context(), t.Context(), &cfg, newReadiness(cfg.Ping, cfg.Log))
	server.Handler.ServeHTTP(c, httptest.NewRequest(http.MethodGet, "/", nil))
	return c
}

// TestResponseFromReader checks that a response that does not come from a file is
// sent in large writes, each with its own deadline, and that no deadline is after
// the end of the request's time limit.
func TestResponseFromReader(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("not a file "), 50_000)
	for _, limit := range []time.Duration{time.Minute, time.Hour} {
		start := time.Now()
		c := serveOn(t, limit, func(w http.ResponseWriter, _ *http.Request) {
			n, err := io.CopyN(w, bytes.NewReader(data), int64(len(data)))
			if err != nil || n != int64(len(data)) {
				t.Errorf("CopyN = %d, %v, want %d", n, err, len(data))
			}
		})
		if !bytes.Equal(c.Body.Bytes(), data) {
			t.Errorf("the response has %d bytes, want the %d bytes of the reader", c.Body.Len(), len(data))
		}
		if want := (len(data) + largeBuffer - 1) / largeBuffer; len(c.writes) != want || len(c.deadlines) != want {
			t.Errorf("writes of %d bytes with %d deadlines, want %d writes of up to %d bytes, each with a deadline", c.writes, len(c.deadlines), want, largeBuffer)
		}
		checkDeadlines(t, c, start, min(limit, stretchTimeout))
	}
}

// TestResponseFromFile checks that a file reaches the connection as a file, in
// stretches that each have a deadline, so that the kernel sends it with sendfile(2).
func TestResponseFromFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	data := bytes.Repeat([]byte("sent from the kernel "), 30_000)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c := serveOn(t, time.Hour, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
	if !bytes.Equal(c.Body.Bytes(), data) {
		t.Errorf("the response has %d bytes, want the %d bytes of the file", c.Body.Len(), len(data))
	}
	if want := (len(data) + stretch - 1) / stretch; len(c.files) != want || len(c.deadlines) != want || len(c.writes) != 0 {
		t.Errorf("the connection got the file in stretches of %d bytes with %d deadlines, and writes of %d bytes, want %d stretches and no writes",
			c.files, len(c.deadlines), c.writes, want)
	}
	checkDeadlines(t, c, start, stretchTimeout)
}

// checkDeadlines checks that each write was allowed to take the time want, counted
// from some moment after start.
func checkDeadlines(t *testing.T, c *connection, start time.Time, want time.Duration) {
	t.Helper()
	for _, at := range c.deadlines {
		if at.Before(start.Add(want)) || at.After(time.Now().Add(want)) {
			t.Errorf("the deadline of a write is %v after the start, want %v", at.Sub(start), want)
		}
	}
}

// TestResponseController checks that a handler can flush a response and take over
// its connection.
func TestResponseController(t *testing.T) {
	t.Parallel()
	cfg := testConfig(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := control.Flush(); err != nil {
			t.Errorf("Flush: %v", err)
		}
		if err := control.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Errorf("SetReadDeadline: %v", err)
		}
		c, _, err := control.Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		c.Close()
	})
	s := httptest.NewServer(newServer(t.Context(), t.Context(), &cfg, newReadiness(cfg.Ping, cfg.Log)).Handler)
	defer s.Close()
	if res, err := s.Client().Post(s.URL, "", bytes.NewReader([]byte("body"))); err == nil {
		res.Body.Close()
	}
}

// TestCopyBuffers checks that a copy uses a small buffer if no large one is free,
// and that each buffer is returned, even after an error.
func TestCopyBuffers(t *testing.T) {
	data := bytes.Repeat([]byte("some bytes "), 100_000)
	b := newCopyBuffers(1)
	// largest copies the data and returns the size of the largest write.
	// meanwhile runs at each write.
	largest := func(meanwhile func() error) (int, error) {
		largest := 0
		var got bytes.Buffer
		_, err := b.copy(writerFunc(func(p []byte) (int, error) {
			largest = max(largest, len(p))
			if meanwhile != nil {
				if err := meanwhile(); err != nil {
					return 0, err
				}
			}
			return got.Write(p)
		}), struct{ io.Reader }{bytes.NewReader(data)})
		if err == nil && !bytes.Equal(got.Bytes(), data) {
			t.Errorf("copy wrote %d bytes, want the %d bytes of the reader", got.Len(), len(data))
		}
		return largest, err
	}
	wantLarge := func(when string) {
		t.Helper()
		if n, err := largest(nil); n != largeBuffer || err != nil {
			t.Errorf("%s: writes of up to %d bytes, %v, want %d", when, n, err, largeBuffer)
		}
	}
	wantLarge("first copy")
	if n, err := largest(func() error {
		n, err := largest(nil)
		if n >= largeBuffer {
			t.Errorf("copy without a free buffer: writes of up to %d bytes, want less than %d", n, largeBuffer)
		}
		return err
	}); n != largeBuffer || err != nil {
		t.Errorf("copy during another copy: writes of up to %d bytes, %v, want %d", n, err, largeBuffer)
	}
	wantLarge("after two concurrent copies")
	broken := errors.New("broken")
	if _, err := largest(func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("copy = %v, want %v", err, broken)
	}
	wantLarge("after an error")
	func() {
		defer func() { _ = recover() }()
		_, _ = largest(func() error { panic(http.ErrAbortHandler) })
	}()
	wantLarge("after a panic")
}

// writerFunc is a function that is a Writer.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
