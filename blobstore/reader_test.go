package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
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

// short is a bucket whose bodies end after so many bytes, with an error or as if
// that were all.
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

// Wherever each connection ends, all bytes come, and no other ones.
func TestReaderGoesOnAnywhere(t *testing.T) {
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
					t.Errorf("GET with Range %q of a store whose answers end after %d bytes with %v = %d, %v, %d bytes, want %d",
						header, after, broken, w.Code, err, w.Body.Len(), len(want))
				}
			}
		}
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
	silent := repository(t, openStore(t, short{r.bucket, 0, drivers.ErrBusy}, Config{}), "a")
	if p, err := silent.Get(t.Context(), d); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Get of a store that sends nothing = %d bytes, %v, want ErrUnavailable", len(p), err)
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
			{"Range", "bytes=100000-", "If-Range", `"another"`}, // is answered with all
		} {
			if err := r.stat(t, d)(); err != nil { // the link is in the cache, and names the data
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
	r.wants(t, "GET of what goes meanwhile", 3, func() error { // the link, and the data twice
		if _, err := r.Get(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
			return fmt.Errorf("Get = %w, want ErrBlobUnknown", err)
		}
		return nil
	})
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

// stalling is a bucket that leaves bodies, or requests for them, without a byte
// more until whoever asked gives up.
type stalling struct {
	drivers.Bucket

	opens  int // that are not answered, the first ones
	bodies int // that stop after so many bytes, the first ones
	after  int
	asked  int          // requests for a body
	held   atomic.Int32 // bodies that nobody has closed
}

func (s *stalling) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if !strings.HasPrefix(key, drivers.BulkPrefix) {
		return s.Bucket.Open(ctx, key, off, n)
	}
	s.asked++
	if s.opens > 0 {
		s.opens--
		<-ctx.Done()
		return nil, drivers.Object{}, ctx.Err()
	}
	rc, o, err := s.Bucket.Open(ctx, key, off, n)
	if err != nil {
		return nil, o, err
	}
	s.held.Add(1)
	body := &stallingBody{ReadCloser: rc, of: s, ctx: ctx, left: math.MaxInt}
	if s.bodies > 0 {
		s.bodies--
		body.left = s.after
	}
	return body, o, nil
}

type stallingBody struct {
	io.ReadCloser

	of     *stalling
	ctx    context.Context //nolint:containedctx // io.Reader has no parameter for it
	left   int
	closed bool
}

func (b *stallingBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func (b *stallingBody) Close() error {
	if !b.closed {
		b.closed = true
		b.of.held.Add(-1)
	}
	return b.ReadCloser.Close()
}

// onStalling is a repository on such a store, with a blob in it.
func onStalling(t *testing.T, cfg Config) (bucket *stalling, r *Repository, p []byte, d digest.Digest) {
	t.Helper()
	bucket = &stalling{Bucket: openMemoryView(t, &memory.Store{})}
	r = repository(t, openStore(t, bucket, cfg), "a")
	p = randomBytes(1, 100_000)
	desc, err := r.Put(t.Context(), "", p)
	if err != nil {
		t.Fatal(err)
	}
	return bucket, r, p, desc.Digest
}

// A store that keeps silent has dropped the connection, as far as a reader can
// tell.
func TestReaderOfSilentStore(t *testing.T) {
	const many = 100
	for what, c := range map[string]struct {
		opens, bodies, after int
		bytes                int           // that come
		err                  error         // of the read
		within               time.Duration // all in all
	}{
		"a body":                  {bodies: 1, after: 1000, bytes: 100_000, within: envelope.SmallCallTimeout},
		"ten bodies":              {bodies: 10, after: 1000, bytes: 100_000, within: 10 * envelope.SmallCallTimeout},
		"a request, the first":    {opens: 1, err: ErrUnavailable, within: envelope.SmallCallTimeout},
		"each body, at its 1000":  {bodies: many, after: 1000, bytes: 100_000, within: many * envelope.SmallCallTimeout},
		"each body, at its first": {bodies: many, err: ErrUnavailable, within: (1 + maxReopens) * envelope.SmallCallTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			bucket, r, p, d := onStalling(t, Config{})
			bucket.opens, bucket.bodies, bucket.after = c.opens, c.bodies, c.after
			start := time.Now()
			got, err := r.Get(t.Context(), d)
			if !errors.Is(err, c.err) || !bytes.Equal(got, p[:c.bytes]) || time.Since(start) > c.within {
				t.Errorf("Get of a store that leaves %s unfinished = %d bytes, %v after %v, want %d, %v within %v",
					what, len(got), err, time.Since(start), c.bytes, c.err, c.within)
			}
			if n := bucket.held.Load(); n != 0 {
				t.Errorf("%d bodies of a store that leaves %s unfinished are not closed", n, what)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		bucket, r, _, d := onStalling(t, Config{})
		rc, err := r.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if _, err := rc.Seek(1000, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		bucket.opens = many
		start := time.Now()
		const most = (1 + maxReopens) * envelope.SmallCallTimeout
		if n, err := rc.Read(make([]byte, 10)); !errors.Is(err, ErrUnavailable) || time.Since(start) > most {
			t.Errorf("Read of a store that has gone silent = %d, %v after %v, want ErrUnavailable within %v", n, err, time.Since(start), most)
		}
		bucket.opens = 0
		if n, err := rc.Read(make([]byte, 10)); n == 0 || err != nil {
			t.Errorf("Read once the store is back = %d, %v", n, err)
		}
	})
}

// Only the store is waited for: whoever reads may take his time.
func TestReaderRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket, r, _, d := onStalling(t, Config{})
		rc, err := r.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		for range 3 {
			time.Sleep(24 * time.Hour)
			if n, err := rc.Read(make([]byte, 10)); n == 0 || err != nil {
				t.Errorf("Read a day later = %d, %v", n, err)
			}
		}
		if bucket.asked != 1 {
			t.Errorf("the store was asked %d times, want once", bucket.asked)
		}
	})
}

// A reader can be closed while it is read, which ends the read.
func TestReaderClosedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket, r, _, d := onStalling(t, Config{})
		bucket.bodies, bucket.after = 1, 1000
		rc, err := r.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		go func() {
			if n, err := io.Copy(io.Discard, rc); n != 1000 || !errors.Is(err, context.Canceled) {
				t.Errorf("a read that Close ended = %d bytes, %v, want 1000 and context.Canceled", n, err)
			}
		}()
		synctest.Wait()
		if err := rc.Close(); err != nil || time.Since(start) > 0 {
			t.Errorf("Close while another reads = %v after %v", err, time.Since(start))
		}
		synctest.Wait()
		if n, err := rc.Read(make([]byte, 10)); n != 0 || err == nil || bucket.asked != 1 {
			t.Errorf("Read after Close = %d, %v after %d requests, want an error and no second one", n, err, bucket.asked)
		}
		if n := bucket.held.Load(); n != 0 {
			t.Errorf("%d bodies are not closed", n)
		}
	})
}

// goneWriter is a connection whose client goes away after some bytes.
type goneWriter struct {
	*httptest.ResponseRecorder

	left int
}

func (w *goneWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		synctest.Wait() // until whoever reads ahead waits for the store
		return 0, errors.New("broken pipe")
	}
	w.left -= len(p)
	return w.ResponseRecorder.Write(p)
}

// A client that goes away leaves nothing behind, whichever ranges it asked for.
func TestClientGoes(t *testing.T) {
	for _, ranges := range []string{"", "bytes=5-", "bytes=0-40000,50000-90000", "bytes=0-100,99000-99999", "bytes=50000-90000,0-40000"} {
		for _, left := range []int{0, 100, 1500, 33_000, 60_000, 82_000} {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				bucket, r, _, d := onStalling(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
				bucket.bodies, bucket.after = math.MaxInt, 1000
				req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
				if ranges != "" {
					req.Header.Set("Range", ranges)
				}
				if err := r.ServeBlob(t.Context(), &goneWriter{httptest.NewRecorder(), left}, req, d); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if n := bucket.held.Load(); n != 0 {
					t.Errorf("Range %q: %d bodies are not closed once the client is gone after %d bytes", ranges, n, left)
				}
				if log.Len() > 0 {
					t.Errorf("Range %q: a client that is gone after %d bytes is logged: %s", ranges, left, log.String())
				}
			})
		}
	}
}
