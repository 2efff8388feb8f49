package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
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
				testSeek(t, rc, p)
				if err := rc.Close(); err != nil {
					t.Errorf("Close = %v, want nil", err)
				}
			}
			if _, err := r.Open(t.Context(), digest.FromString("unknown")); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("Open of an unknown blob = %v, want ErrBlobUnknown", err)
			}
		})
	}
}

// testSeek seeks to random offsets, some of them past the end, and reads after
// each.
func testSeek(t *testing.T, r io.ReadSeeker, p []byte) {
	t.Helper()
	size := int64(len(p))
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	at, err := r.Seek(0, io.SeekStart)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		to := rng.Int64N(size + 10)
		var got int64
		switch rng.IntN(3) {
		case 0:
			got, err = r.Seek(to, io.SeekStart)
		case 1:
			got, err = r.Seek(to-at, io.SeekCurrent)
		case 2:
			got, err = r.Seek(to-size, io.SeekEnd)
		}
		if err != nil || got != to {
			t.Fatalf("Seek = %d, %v, want %d", got, err, to)
		}
		buf := make([]byte, rng.IntN(1000))
		want := p[min(to, size):]
		want = want[:min(len(want), len(buf))]
		n, err := io.ReadFull(r, buf)
		if !bytes.Equal(buf[:n], want) || n == len(buf) && err != nil {
			t.Fatalf("read of %d bytes at %d = %d bytes, %v, want %d", len(buf), to, n, err, len(want))
		}
		at = to + int64(n)
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("Seek before the start = nil, want an error")
	}
}

// isData reports whether a call reads the bytes of a blob.
func isData(c drivertest.Call) bool {
	return c.Method == "Open" && strings.HasPrefix(c.Key, drivers.BulkPrefix)
}

// A reader resumes after each of many broken connections until it has read all
// bytes.
func TestReaderResumes(t *testing.T) {
	r := newReads(t, Config{})
	p := randomBytes(1, 300_000)
	d := r.put(t, p)
	opens := 0
	r.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if isData(c) && err == nil && len(p)>>opens > 1 {
			opens++
			err = drivertest.ErrInjected // after half of the rest
		}
		return err
	}
	got, err := r.Get(t.Context(), d)
	if err != nil || !bytes.Equal(got, p) {
		t.Errorf("Get = %d bytes, %v, want %d", len(got), err, len(p))
	}
	if opens < 15 {
		t.Errorf("the connection broke %d times, want at least 15", opens)
	}
	opens = 0
	w, err := r.serve(t, "GET", d, "Range", "bytes=100-250000")
	if err != nil || !bytes.Equal(w.Body.Bytes(), p[100:250_001]) || opens == 0 {
		t.Errorf("GET = %d bytes, %v after %d broken connections, want 249901", w.Body.Len(), err, opens)
	}
}

// short is a bucket in which every read of data ends after a number of bytes, with
// err.
type short struct {
	drivers.Bucket

	after int64
	err   error
}

func (s short) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	rc, o, err := s.Bucket.Open(ctx, key, off, n)
	if err != nil || !strings.HasPrefix(key, drivers.BulkPrefix) {
		return rc, o, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(rc, s.after), iotest.ErrReader(s.err)), rc}, o, nil
}

// A reader resumes correctly after a connection breaks at any offset.
func TestReaderResumesAnywhere(t *testing.T) {
	const size = 300
	p := randomBytes(1, size)
	d := digest.FromBytes(p)
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, drivers.ErrBusy} {
		for after := range int64(size + 1) {
			store := short{openMemoryView(t, &memory.Store{}), after, broken}
			r := &reads{Repository: repository(t, openStore(t, store, Config{InlineMax: 1}), "a")}
			if _, err := r.Put(t.Context(), "", p); err != nil {
				t.Fatal(err)
			}
			for header, want := range map[string][]byte{
				"": p, "bytes=100-249": p[100:250], "bytes=-7": p[size-7:], "bytes=250-299,0-99,90-120": slices.Concat(p[250:], p[:100], p[90:121]),
			} {
				w, err := r.serve(t, "GET", d, "Range", header)
				got := w.Body.Bytes()
				if after == 0 {
					want = nil
				} else {
					got = blobBytes(t, w)
				}
				if err != nil || w.Code/100 != 2 || !bytes.Equal(got, want) {
					t.Errorf("GET with Range %q from a store that ends each read after %d bytes with %v = %d, %v, %d bytes, want %d",
						header, after, broken, w.Code, err, w.Body.Len(), len(want))
				}
			}
		}
	}
}

// A reader that opens the object again several times without a byte still
// continues if the last attempt allowed returns one.
func TestReaderTriesAgain(t *testing.T) {
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
		return drivertest.ErrInjected // after half of the bytes
	}
	rc, err := r.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	got := make([]byte, 290_000)
	if _, err := io.ReadFull(rc, got); err != nil || !bytes.Equal(got, p[:len(got)]) {
		t.Errorf("Read = %v, want the bytes", err)
	}
}

// A reader gives up after maxReopens attempts without a byte. It can be read again
// when the store is available.
func TestReaderGivesUp(t *testing.T) {
	r := newReads(t, Config{})
	p := randomBytes(1, 300_000)
	d := r.put(t, p)
	rc, err := r.Open(t.Context(), d)
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
		t.Errorf("Read from a busy store = %d, %v after %d requests, want ErrUnavailable after %d", n, err, r.counter.Total(), 1+maxReopens)
	}
	silent := repository(t, openStore(t, short{r.bucket, 0, drivers.ErrBusy}, Config{}), "a")
	if p, err := silent.Get(t.Context(), d); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Get from a store that sends nothing = %d bytes, %v, want ErrUnavailable", len(p), err)
	}
	r.intercept = nil
	buf := make([]byte, 10)
	if _, err := io.ReadFull(rc, buf); err != nil || !bytes.Equal(buf, p[1000:1010]) {
		t.Errorf("Read when the store is available again = %v, want the bytes", err)
	}
}

// If the data of a blob is gone, the blob is unknown, so that clients push it
// again. The cached link is not used a second time.
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
		l, err := r.s.catalog.ReadLink(t.Context(), d, r.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(r.bucket, l.Value.Data); err != nil {
			t.Fatal(err)
		}
		for _, header := range [][]string{
			nil,
			{"Range", "bytes=7-"},
			{"Range", "bytes=0-1,90000-"},
			{"Range", "bytes=100000-", "If-Range", `"another"`}, // is answered with the whole blob
		} {
			if err := r.stat(t, d)(); err != nil { // puts the link into the cache
				t.Fatal(err)
			}
			w, err := r.serve(t, "GET", d, header...)
			if !errors.Is(err, ErrBlobUnknown) || w.Body.Len() > 0 || len(w.Header()) > 0 {
				t.Errorf("GET with %q of data that is %s = %v, %d bytes, %v, want ErrBlobUnknown and nothing written",
					header, what, err, w.Body.Len(), w.Header())
			}
		}
		if err := r.get(t, d)(); !errors.Is(err, ErrBlobUnknown) {
			t.Errorf("Get of data that is %s = %v, want ErrBlobUnknown", what, err)
		}
		// After a push on another replica, the blob can be read here immediately.
		r.put(t, p)
		r.wants(t, "GET after the blob was pushed again", 2, r.get(t, d))
	}
}

// If the data is deleted while it is read, the read fails.
func TestDataDeletedDuringRead(t *testing.T) {
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
	r.wants(t, "GET of data that is deleted during the read", 3, func() error { // the link, and the data twice
		if _, err := r.Get(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
			return fmt.Errorf("Get = %w, want ErrBlobUnknown", err)
		}
		return nil
	})
}

// A reader gives up when its context ends.
func TestReaderContextEnds(t *testing.T) {
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
