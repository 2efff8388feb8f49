package blobstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

func TestOpen(t *testing.T) {
	for name, open := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			r := repository(t, openStore(t, open(t), smallParts()), "a")
			for i, size := range []int{0, 1, 16 << 10, 16<<10 + 1, 300_000} {
				p := randomBytes(uint64(i), size)
				desc, err := r.Put(t.Context(), "", p)
				if err != nil {
					t.Fatal(err)
				}
				rc, err := r.Open(t.Context(), desc.Digest)
				if err != nil {
					t.Fatal(err)
				}
				if err := iotest.TestReader(rc, p); err != nil {
					t.Errorf("reader of %d bytes: %v", size, err)
				}
				// Seeks to anywhere, also past the end, with a read after each.
				rng := rand.New(rand.NewPCG(1, uint64(size)))
				at, err := rc.Seek(0, io.SeekStart)
				if err != nil {
					t.Fatal(err)
				}
				for range 100 {
					to := rng.Int64N(int64(size) + 10)
					var got int64
					switch rng.IntN(3) {
					case 0:
						got, err = rc.Seek(to, io.SeekStart)
					case 1:
						got, err = rc.Seek(to-at, io.SeekCurrent)
					case 2:
						got, err = rc.Seek(to-int64(size), io.SeekEnd)
					}
					if err != nil || got != to {
						t.Fatalf("Seek = %d, %v, want %d", got, err, to)
					}
					buf := make([]byte, rng.IntN(1000))
					want := p[min(to, int64(size)):]
					want = want[:min(len(want), len(buf))]
					n, err := io.ReadFull(rc, buf)
					if !bytes.Equal(buf[:n], want) || n == len(buf) && err != nil {
						t.Fatalf("%d bytes at %d: %d bytes, %v, want %d", len(buf), to, n, err, len(want))
					}
					at = to + int64(n)
				}
				if _, err := rc.Seek(-1, io.SeekStart); err == nil {
					t.Error("Seek before the start succeeded")
				}
				if err := rc.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			if _, err := r.Open(t.Context(), digest.FromString("unknown")); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("Open = %v, want ErrBlobUnknown", err)
			}
		})
	}
}

// isData says whether a call reads the bytes of a blob.
func isData(c drivertest.Call) bool {
	return c.Method == "Open" && strings.HasPrefix(c.Key, drivers.BulkPrefix)
}

// A reader whose connection breaks half-way, again and again, goes on where it
// was until it has all.
func TestReaderGoesOn(t *testing.T) {
	r := newReads(t, Config{})
	p := randomBytes(1, 300_000)
	d := r.put(t, p)
	opens := 0
	r.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if isData(c) && err == nil && len(p)>>opens > 1 {
			opens++
			err = drivertest.ErrInjected // after half of what is left
		}
		return err
	}
	got, err := r.Get(t.Context(), d)
	if err != nil || !bytes.Equal(got, p) {
		t.Errorf("Get = %d bytes, %v, want %d", len(got), err, len(p))
	}
	if opens < 15 {
		t.Errorf("the connection broke %d times, want one for each half", opens)
	}
	opens = 0
	w, err := r.serve(t, "GET", d, "Range", "bytes=100-250000")
	if err != nil || !bytes.Equal(w.Body.Bytes(), p[100:250_001]) || opens == 0 {
		t.Errorf("GET = %d bytes, %v after %d broken connections, want 249901", w.Body.Len(), err, opens)
	}
}

// It gives up when so many connections in a row bring nothing, and counts anew
// after a byte.
func TestReaderGivesUp(t *testing.T) {
	r := newReads(t, Config{})
	p := randomBytes(1, 300_000)
	d := r.put(t, p)
	var refuse int
	r.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if !isData(c) || r.counter.ByMethod()["Open"] == 0 {
			return do(ctx)
		}
		if refuse > 0 {
			refuse--
			return drivertest.ErrInjected
		}
		if err := do(ctx); err != nil {
			return err
		}
		refuse = maxReopens - 1
		return drivertest.ErrInjected // half-way
	}
	// One that is refused twice after each broken connection still goes on, as
	// long as the third brings something.
	rc, err := r.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	got := make([]byte, 290_000)
	if _, err := io.ReadFull(rc, got); err != nil || !bytes.Equal(got, p[:len(got)]) {
		t.Errorf("Read: %v, want it to go on", err)
	}

	r.intercept = nil
	rc, err = r.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := rc.Seek(1000, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	faulty := &drivertest.Faulty{Match: isData, Err: drivers.ErrBusy}
	r.intercept = faulty.Intercept
	r.counter.Reset()
	if n, err := rc.Read(make([]byte, 10)); n != 0 || !errors.Is(err, ErrUnavailable) || r.counter.Total() != 1+maxReopens {
		t.Errorf("Read of a store that is busy = %d, %v after %d requests, want ErrUnavailable after %d", n, err, r.counter.Total(), 1+maxReopens)
	}
	// When the store is back, so is the reader.
	r.intercept = nil
	buf := make([]byte, 10)
	if _, err := io.ReadFull(rc, buf); err != nil || !bytes.Equal(buf, p[1000:1010]) {
		t.Errorf("Read once the store is back: %v", err)
	}
}

// Data that is gone makes the blob unknown, so that it is pushed again, and the
// cached link is not believed a second time.
func TestDataGone(t *testing.T) {
	for what, spoil := range map[string]func(b drivers.Bucket, key string) error{
		"gone": func(b drivers.Bucket, key string) error { return b.Delete(t.Context(), key) },
		"short": func(b drivers.Bucket, key string) error {
			if err := b.Delete(t.Context(), key); err != nil {
				return err
			}
			_, err := b.Create(t.Context(), key, drivers.NewBody([]byte("short")))
			return err
		},
	} {
		r := newReads(t, Config{})
		p := randomBytes(1, 100_000)
		d := r.put(t, p)
		r.wants(t, "GET", 2, r.get(t, d))
		l, err := r.readLink(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(r.bucket, l.Value.Data); err != nil {
			t.Fatal(err)
		}
		w, err := r.serve(t, "GET", d)
		if !errors.Is(err, ErrBlobUnknown) || w.Body.Len() > 0 || len(w.Header()) > 0 {
			t.Errorf("GET of data that is %s = %v, %d bytes, %v, want ErrBlobUnknown and nothing written", what, err, w.Body.Len(), w.Header())
		}
		if err := r.get(t, d)(); !errors.Is(err, ErrBlobUnknown) {
			t.Errorf("Get of data that is %s = %v, want ErrBlobUnknown", what, err)
		}
		// It is pushed again, on another replica; here it is read at once.
		r.put(t, p)
		r.wants(t, "GET once it was pushed again", 2, r.get(t, d))
	}
}

// Data that goes while it is read ends the reading; no other bytes take its
// place.
func TestDataGoesMeanwhile(t *testing.T) {
	r := newReads(t, Config{})
	d := r.put(t, randomBytes(1, 300_000))
	first := true
	r.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if isData(c) && err == nil && first {
			first = false
			if err := r.bucket.Delete(ctx, c.Key); err != nil {
				t.Error(err)
			}
			return drivertest.ErrInjected
		}
		return err
	}
	if _, err := r.Get(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("Get = %v, want ErrBlobUnknown", err)
	}
}

// A reader ends with its context, and tries no further.
func TestReaderEndsWithItsContext(t *testing.T) {
	r := newReads(t, Config{})
	d := r.put(t, randomBytes(1, 300_000))
	ctx, cancel := context.WithCancel(t.Context())
	rc, err := r.Open(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := rc.Seek(1, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	cancel()
	r.counter.Reset()
	if _, err := rc.Read(make([]byte, 10)); !errors.Is(err, context.Canceled) || r.counter.Total() > 1 {
		t.Errorf("Read = %v after %d requests, want context.Canceled after one", err, r.counter.Total())
	}
}
