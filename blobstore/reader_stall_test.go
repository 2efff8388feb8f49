package blobstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// stallingBucket is a bucket that stops responding. Some calls of Open stall
// immediately, and others in the middle of a body. They return when their context ends.
type stallingBucket struct {
	drivers.Bucket

	prefix   string       // of the keys whose calls may stall
	opens    int          // number of calls of Open that stall
	bodies   int          // number of bodies that stall, after the opens
	after    int          // bytes of a body before it stalls
	requests int          // number of calls of Open for these keys
	unclosed atomic.Int32 // number of bodies that are not closed
}

func (s *stallingBucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if !strings.HasPrefix(key, s.prefix) {
		return s.Bucket.Open(ctx, key, off, n)
	}
	s.requests++
	if s.opens > 0 {
		s.opens--
		<-ctx.Done()
		return nil, drivers.Object{}, ctx.Err()
	}
	rc, o, err := s.Bucket.Open(ctx, key, off, n)
	if err != nil {
		return nil, o, err
	}
	s.unclosed.Add(1)
	body := &stallingBody{ReadCloser: rc, bucket: s, ctx: ctx, left: math.MaxInt}
	if s.bodies > 0 {
		s.bodies--
		body.left = s.after
	}
	return body, o, nil
}

type stallingBody struct {
	io.ReadCloser

	bucket *stallingBucket
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
		b.bucket.unclosed.Add(-1)
	}
	return b.ReadCloser.Close()
}

// onStalling returns a repository in a stallingBucket, and a blob in it.
func onStalling(t *testing.T, cfg Config) (bucket *stallingBucket, r *Repository, p []byte, d digest.Digest) {
	t.Helper()
	bucket = &stallingBucket{Bucket: openMemoryView(t, &memory.Store{}), prefix: drivers.BulkPrefix}
	r = repository(t, openStore(t, bucket, cfg), "a")
	p = randomBytes(1, 100_000)
	desc, err := r.Put(t.Context(), "", p)
	if err != nil {
		t.Fatal(err)
	}
	return bucket, r, p, desc.Digest
}

// A reader treats a store that stops responding like a broken connection.
func TestReaderOfStallingStore(t *testing.T) {
	const many = 100
	for what, c := range map[string]struct {
		opens, bodies, after int
		bytes                int           // expected
		err                  error         // expected
		within               time.Duration // the whole read
	}{
		"one body":               {bodies: 1, after: 1000, bytes: 100_000, within: envelope.SmallCallTimeout},
		"ten bodies":             {bodies: 10, after: 1000, bytes: 100_000, within: 10 * envelope.SmallCallTimeout},
		"the first Open":         {opens: 1, err: ErrUnavailable, within: envelope.SmallCallTimeout},
		"each body after 1000":   {bodies: many, after: 1000, bytes: 100_000, within: many * envelope.SmallCallTimeout},
		"each body at its start": {bodies: many, err: ErrUnavailable, within: (1 + maxReopens) * envelope.SmallCallTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			bucket, r, p, d := onStalling(t, Config{})
			bucket.opens, bucket.bodies, bucket.after = c.opens, c.bodies, c.after
			start := time.Now()
			got, err := r.Get(t.Context(), d)
			if !errors.Is(err, c.err) || !bytes.Equal(got, p[:c.bytes]) || time.Since(start) > c.within {
				t.Errorf("Get from a store that stalls (%s) = %d bytes, %v after %v, want %d, %v within %v",
					what, len(got), err, time.Since(start), c.bytes, c.err, c.within)
			}
			if n := bucket.unclosed.Load(); n != 0 {
				t.Errorf("%d bodies of a store that stalls (%s) are not closed", n, what)
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
		const limit = (1 + maxReopens) * envelope.SmallCallTimeout
		if n, err := rc.Read(make([]byte, 10)); !errors.Is(err, ErrUnavailable) || time.Since(start) > limit {
			t.Errorf("Read from a store that stalls = %d, %v after %v, want ErrUnavailable within %v", n, err, time.Since(start), limit)
		}
		bucket.opens = 0
		if n, err := rc.Read(make([]byte, 10)); n == 0 || err != nil {
			t.Errorf("Read when the store responds again = %d, %v, want bytes", n, err)
		}
	})
}

// The timeout is for the store: the caller may take any time between two Reads.
func TestReaderPauses(t *testing.T) {
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
				t.Errorf("Read a day later = %d, %v, want bytes", n, err)
			}
		}
		if bucket.requests != 1 {
			t.Errorf("the reader made %d requests, want one", bucket.requests)
		}
	})
}

// Close during a Read ends the Read.
func TestCloseDuringRead(t *testing.T) {
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
				t.Errorf("Copy that Close ended = %d bytes, %v, want 1000 and context.Canceled", n, err)
			}
		}()
		synctest.Wait()
		if err := rc.Close(); err != nil || time.Since(start) > 0 {
			t.Errorf("Close during a Read = %v after %v, want nil immediately", err, time.Since(start))
		}
		synctest.Wait()
		if n, err := rc.Read(make([]byte, 10)); n != 0 || err == nil || bucket.requests != 1 {
			t.Errorf("Read after Close = %d, %v after %d requests, want an error and no second request", n, err, bucket.requests)
		}
		if n := bucket.unclosed.Load(); n != 0 {
			t.Errorf("%d bodies are not closed", n)
		}
	})
}

// disconnectingWriter is a response to a client that disconnects after some bytes.
type disconnectingWriter struct {
	*httptest.ResponseRecorder

	left int
}

func (w *disconnectingWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		synctest.Wait() // until every other goroutine waits for the store
		return 0, errors.New("broken pipe")
	}
	w.left -= len(p)
	return w.ResponseRecorder.Write(p)
}

// When a client disconnects, all bodies are closed and nothing is logged.
func TestClientDisconnects(t *testing.T) {
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
				if err := r.ServeBlob(t.Context(), &disconnectingWriter{httptest.NewRecorder(), left}, req, d); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if n := bucket.unclosed.Load(); n != 0 {
					t.Errorf("Range %q: %d bodies are not closed after the client disconnects after %d bytes", ranges, n, left)
				}
				if log.Len() > 0 {
					t.Errorf("Range %q: the log of a client that disconnects after %d bytes has %s, want nothing", ranges, left, log.String())
				}
			})
		}
	}
}
