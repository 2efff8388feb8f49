package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// writerFunc is a writer that is a function.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestBuffers checks that a copy uses a small buffer if no large one is free, and
// that each buffer is returned, even after an error.
func TestBuffers(t *testing.T) {
	data := randomBytes(1, 1<<20)
	b := newBuffers(1)
	// most copies the data, and returns how many bytes were written at once.
	most := func(meanwhile func() error) (int, error) {
		most := 0
		var got bytes.Buffer
		_, err := b.copy(writerFunc(func(p []byte) (int, error) {
			most = max(most, len(p))
			if meanwhile != nil {
				if err := meanwhile(); err != nil {
					return 0, err
				}
			}
			return got.Write(p)
		}), struct{ io.Reader }{bytes.NewReader(data)})
		if err == nil && !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d bytes were written, want the %d that there were", got.Len(), len(data))
		}
		return most, err
	}
	wantLarge := func(when string) {
		t.Helper()
		if n, err := most(nil); n != largeBuffer || err != nil {
			t.Errorf("%s: writes of up to %d bytes, %v, want %d", when, n, err, largeBuffer)
		}
	}
	wantLarge("at first")
	if n, err := most(func() error {
		n, err := most(nil)
		if n >= largeBuffer {
			t.Errorf("while it is lent: writes of up to %d bytes, want less than %d", n, largeBuffer)
		}
		return err
	}); n != largeBuffer || err != nil {
		t.Errorf("while another one copies: writes of up to %d bytes, %v, want %d", n, err, largeBuffer)
	}
	wantLarge("after two at a time")
	broken := errors.New("broken")
	if _, err := most(func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("copy = %v, want %v", err, broken)
	}
	wantLarge("after a failure")
	func() {
		defer func() { _ = recover() }()
		_, _ = most(func() error { panic(http.ErrAbortHandler) })
	}()
	wantLarge("after a panic")
}

// timedConn is a connection as net/http has it.
type timedConn struct {
	*httptest.ResponseRecorder

	writes    []int // how many bytes there were in each
	deadlines []time.Time
}

func (c *timedConn) Write(p []byte) (int, error) {
	c.writes = append(c.writes, len(p))
	return c.ResponseRecorder.Write(p)
}

func (c *timedConn) ReadFrom(r io.Reader) (int64, error) {
	return 0, errors.New("this is not a file") // and is waited for as long as it takes
}

func (c *timedConn) SetWriteDeadline(at time.Time) error { //nolint:unparam // http.ResponseController wants it
	c.deadlines = append(c.deadlines, at)
	return nil
}

// TestTimed: an answer that is no file goes out in large writes, each with a
// deadline of its own, and none lasts longer than a request may.
func TestTimed(t *testing.T) {
	t.Parallel()
	data := randomBytes(1, 4*largeBuffer)
	for _, most := range []time.Duration{time.Minute, time.Hour} {
		c := &timedConn{ResponseRecorder: httptest.NewRecorder()}
		start := time.Now()
		timed(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			n, err := io.CopyN(w, bytes.NewReader(data), int64(len(data)))
			if err != nil || n != int64(len(data)) {
				t.Errorf("CopyN = %d, %v, want %d", n, err, len(data))
			}
		}), most).ServeHTTP(c, httptest.NewRequest(http.MethodGet, "/", nil))
		if !bytes.Equal(c.Body.Bytes(), data) {
			t.Errorf("%d bytes were sent, want the %d that there are", c.Body.Len(), len(data))
		}
		if len(c.writes) != 4 || len(c.deadlines) != len(c.writes) {
			t.Errorf("writes of %d bytes, and %d deadlines, want 4 of %d, and as many", c.writes, len(c.deadlines), largeBuffer)
		}
		for _, at := range c.deadlines {
			if in := at.Sub(start); in < min(most, answerTimeout) || at.After(time.Now().Add(min(most, answerTimeout))) {
				t.Errorf("of at most %v a write has %v, want %v", most, in, min(most, answerTimeout))
			}
		}
	}
}
