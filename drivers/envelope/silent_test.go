package envelope_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// hesitant is a bucket that waits before it answers Open, and again before the
// byte at stop.
type hesitant struct {
	drivers.Bucket

	open, read time.Duration
	stop       int64
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hesitant) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if err := wait(ctx, h.open); err != nil {
		return nil, drivers.Object{}, err
	}
	rc, o, err := h.Bucket.Open(ctx, key, off, n)
	if err != nil {
		return nil, o, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(rc, h.stop), &waiting{ctx, h.read}, rc), rc}, o, nil
}

// waiting is a reader that returns no byte, and io.EOF only after some time.
type waiting struct {
	ctx  context.Context //nolint:containedctx // io.Reader has no parameter for it
	time time.Duration
}

func (w *waiting) Read([]byte) (int, error) {
	if err := wait(w.ctx, w.time); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// TestSilence checks that a store that stops responding, at the start or in the
// middle of a small body, is reported as busy after half a minute. Reading the
// raw bytes that Open returns may take longer.
func TestSilence(t *testing.T) {
	const raw, never = 1000, 24 * time.Hour
	for _, tt := range []struct {
		name  string
		store hesitant
		read  error // of Read
		open  error // of Open
	}{
		{"immediately", hesitant{}, nil, nil},
		{"slow", hesitant{open: 14 * time.Second, read: 15 * time.Second, stop: 1}, nil, nil},
		{"no answer", hesitant{open: never}, drivers.ErrBusy, drivers.ErrBusy},
		{"no line", hesitant{read: never, stop: 1}, drivers.ErrBusy, drivers.ErrBusy},
		{"too slow", hesitant{open: 20 * time.Second, read: 20 * time.Second, stop: 1}, drivers.ErrBusy, drivers.ErrBusy},
		{"slow raw bytes", hesitant{read: time.Hour, stop: 500}, drivers.ErrBusy, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.store.Bucket = bucket(t, &memory.Store{}, nil)
				if _, err := envelope.Create(t.Context(), tt.store.Bucket, key, note{Text: "x"}, drivers.NewBody(make([]byte, raw))); err != nil {
					t.Fatal(err)
				}
				const most = 31 * time.Second
				start := time.Now()
				if _, err := envelope.Read[note](t.Context(), &tt.store, key); !errors.Is(err, tt.read) || time.Since(start) > most {
					t.Errorf("Read = %v after %v, want %v within %v", err, time.Since(start), tt.read, most)
				}
				start = time.Now()
				s, rest, err := envelope.Open[note](t.Context(), &tt.store, key)
				if !errors.Is(err, tt.open) || time.Since(start) > most {
					t.Fatalf("Open = %v after %v, want %v within %v", err, time.Since(start), tt.open, most)
				}
				if err != nil {
					return
				}
				defer rest.Close()
				if data, err := io.ReadAll(rest); int64(len(data)) != s.RawSize || err != nil {
					t.Errorf("%d bytes follow, %v, want %d", len(data), err, s.RawSize)
				}
			})
		})
	}

	// If the caller's own deadline ends first, the error makes no claim about
	// the store.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	silent := &hesitant{Bucket: bucket(t, &memory.Store{}, nil), open: never}
	if _, err := envelope.Read[note](ctx, silent, key); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, drivers.ErrBusy) {
		t.Errorf("Read until the caller's deadline = %v, want %v", err, context.DeadlineExceeded)
	}
	if _, _, err := envelope.Open[note](ctx, silent, key); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, drivers.ErrBusy) {
		t.Errorf("Open until the caller's deadline = %v, want %v", err, context.DeadlineExceeded)
	}
}
