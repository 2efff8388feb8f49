package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

// env is the environment of one case.
type env struct {
	*testing.T
	Suite
	open Opener
	a, b drivers.Bucket // two replicas

	mu  sync.Mutex
	rng *rand.ChaCha8
	n   int
}

func newEnv(t *testing.T, s Suite) *env {
	var seed [32]byte
	copy(seed[:], t.Name())
	e := &env{T: t, Suite: s, open: s.New(t), rng: rand.NewChaCha8(seed)}
	e.a, e.b = e.replica(), e.replica()
	return e
}

// replica returns another replica of the bucket.
func (e *env) replica() drivers.Bucket {
	e.Helper()
	b, err := e.open(e.Context())
	if err != nil {
		e.Fatalf("Open() = %v", err)
	}
	e.Cleanup(func() {
		if err := b.Close(); err != nil {
			e.Errorf("Close() = %v", err)
		}
	})
	return b
}

// outcome returns the claim that an error makes: the names of the sentinels
// that it wraps, "error" if it wraps none, and "success" if it is nil.
func outcome(err error) string {
	if err == nil {
		return "success"
	}
	var claims []string
	for _, s := range []error{drivers.ErrNotFound, drivers.ErrExists, drivers.ErrChanged, drivers.ErrRange, drivers.ErrBusy, drivers.ErrRefused, drivers.ErrFull, errors.ErrUnsupported} {
		if errors.Is(err, s) {
			claims = append(claims, s.Error())
		}
	}
	if claims == nil {
		return "error"
	}
	return strings.Join(claims, " and ")
}

// errOther stands for any error that wraps no sentinel.
var errOther = errors.New("an error that makes no claim")

// want fails the test unless err has the same outcome as sentinel. A nil
// sentinel means success.
func (e *env) want(err, sentinel error, format string, args ...any) {
	e.Helper()
	if outcome(err) == outcome(sentinel) {
		return
	}
	want := "success"
	if sentinel != nil {
		want = sentinel.Error()
	}
	e.Errorf("%s = %v (%s), want %s", fmt.Sprintf(format, args...), err, outcome(err), want)
}

// must ends the test unless err is nil.
func (e *env) must(err error, format string, args ...any) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s = %v", fmt.Sprintf(format, args...), err)
	}
}

// bytes returns n bytes that no other call returns. It is safe for concurrent
// use.
func (e *env) bytes(n int64) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := make([]byte, n)
	e.rng.Read(p) //nolint:errcheck // never fails
	return p
}

// text returns a short body that no other call returns.
func (e *env) text() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
	return fmt.Appendf(nil, "body %d of %s", e.n, e.Name())
}

// body returns a Body of these bytes, in segments of uneven length.
func body(data []byte) drivers.Body {
	var segments [][]byte
	for size, rest := 1, data; len(rest) > 0; size = 3*size + 1 {
		n := min(size, len(rest))
		segments, rest = append(segments, rest[:n]), rest[n:]
	}
	return drivers.NewBody(segments...)
}

// create stores data, or ends the test.
func (e *env) create(b drivers.Bucket, key string, data []byte) drivers.Object {
	e.Helper()
	o, err := b.Create(e.Context(), key, body(data))
	e.must(err, "Create(%q)", key)
	return o
}

// replace calls Replace, and retries for stores that take one replacement of a
// key per second.
func replace(ctx context.Context, b drivers.Bucket, key, tag string, data []byte) (drivers.Object, error) {
	for {
		o, err := b.Replace(ctx, key, tag, body(data))
		if !errors.Is(err, drivers.ErrBusy) {
			return o, err
		}
		time.Sleep(1100 * time.Millisecond)
		if got, o, err := read(ctx, b, key, 0, -1); err == nil && bytes.Equal(got, data) {
			return o, nil
		}
	}
}

// read reads a range to its end.
func read(ctx context.Context, b drivers.Bucket, key string, off, n int64) ([]byte, drivers.Object, error) {
	r, o, err := b.Open(ctx, key, off, n)
	if err != nil {
		return nil, o, err
	}
	defer r.Close()
	size := max(0, o.Size-off)
	if n >= 0 {
		size = min(size, n)
	}
	data := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err = data.ReadFrom(r)
	return data.Bytes(), o, err
}

// holds fails the test unless both replicas find exactly data at key. It
// returns the result of Stat.
func (e *env) holds(key string, data []byte) drivers.Object {
	e.Helper()
	var last drivers.Object
	for _, b := range []drivers.Bucket{e.a, e.b} {
		got, o, err := read(e.Context(), b, key, 0, -1)
		if err != nil || !bytes.Equal(got, data) {
			e.Errorf("Open(%q) reads %s, %v, want %s", key, brief(got), err, brief(data))
			return o
		}
		last, err = b.Stat(e.Context(), key)
		if err != nil || last != o {
			e.Errorf("Stat(%q) = %+v, %v, want %+v, which Open returned", key, last, err, o)
		}
		if o.Key != key || o.Size != int64(len(data)) || o.Tag == "" || o.Modified.IsZero() {
			e.Errorf("Stat(%q) = %+v, want %d bytes, a tag and a time", key, o, len(data))
		}
	}
	return last
}

// wrote fails the test unless the result of a write agrees with the stored
// object. The result may have no time.
func (e *env) wrote(o drivers.Object, data []byte) {
	e.Helper()
	stored := e.holds(o.Key, data)
	if o.Modified.IsZero() {
		o.Modified = stored.Modified
	}
	if o != stored {
		e.Errorf("the write of %q returned %+v, want the stored %+v", o.Key, o, stored)
	}
}

// absent fails the test unless both replicas report that key is absent.
func (e *env) absent(key string) {
	e.Helper()
	for _, b := range []drivers.Bucket{e.a, e.b} {
		_, err := b.Stat(e.Context(), key)
		e.want(err, drivers.ErrNotFound, "Stat(%q)", key)
		_, _, err = read(e.Context(), b, key, 0, -1)
		e.want(err, drivers.ErrNotFound, "Open(%q)", key)
		for _, o := range e.list(b, key, "") {
			if o.Key == key {
				e.Errorf("List(%q) returns an absent key", key)
			}
		}
	}
}

// list returns all objects of a List.
func (e *env) list(b drivers.Bucket, prefix, after string) []drivers.Object {
	e.Helper()
	return e.listWanting(b, prefix, after, 0)
}

// listWanting returns all objects of a List by a caller that wants some of them.
func (e *env) listWanting(b drivers.Bucket, prefix, after string, want int) []drivers.Object {
	e.Helper()
	var found []drivers.Object
	for o, err := range b.List(e.Context(), prefix, after, want) {
		e.must(err, "List(%q, %q) after %d keys", prefix, after, len(found))
		found = append(found, o)
	}
	return found
}

// keysOf returns the keys of objects.
func keysOf(objects []drivers.Object) []string {
	keys := make([]string, 0, len(objects))
	for _, o := range objects {
		keys = append(keys, o.Key)
	}
	return keys
}

// race calls f n times at once, alternating between the two replicas.
func (e *env) race(n int, f func(i int, b drivers.Bucket)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		b := e.a
		if i%2 == 1 {
			b = e.b
		}
		wg.Go(func() {
			<-start
			f(i, b)
		})
	}
	close(start)
	wg.Wait()
}

// each calls f for 0 to n-1 from Workers goroutines, and ends the test on an
// error.
func (e *env) each(n int, f func(i int, b drivers.Bucket) error) {
	e.Helper()
	next := make(chan int)
	failed := make([]error, e.Workers)
	var wg sync.WaitGroup
	for w := range e.Workers {
		wg.Go(func() {
			b := e.a
			if w%2 == 1 {
				b = e.b
			}
			for i := range next {
				if failed[w] == nil {
					failed[w] = f(i, b)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	e.must(errors.Join(failed...), "one of %d calls", n)
}

// brief formats bytes for a message.
func brief(p []byte) string {
	if len(p) <= 64 {
		return fmt.Sprintf("%q", p)
	}
	return fmt.Sprintf("%d bytes with CRC-32C %08x", len(p), drivers.UpdateCRC32C(0, p))
}
