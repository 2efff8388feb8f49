package main

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// writerFunc is a writer that is a function.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestBuffers: who finds all large buffers lent copies with a small one, and
// each is given back, however the copying ends.
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
}
