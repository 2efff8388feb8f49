package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing/iotest"

	"github.com/berthhq/berth/drivers"
)

func streamCases() []testCase {
	return []testCase{
		{"Stream", stream},
		{"StreamBroken", streamBroken},
		{"StreamCancelled", streamCancelled},
		{"StreamInParallel", streamInParallel},
	}
}

// streams reports whether the driver supports StreamPart. If Limits().Stream is
// false, StreamPart must return errors.ErrUnsupported.
func (e *env) streams() bool {
	e.Helper()
	if e.a.Limits().Stream {
		return true
	}
	u := e.start(e.a, "data/stream")
	_, err := e.a.StreamPart(e.Context(), u, 1, strings.NewReader("x"))
	e.want(err, errors.ErrUnsupported, "StreamPart of a store that does not stream")
	return false
}

// streamed fails the test unless p describes data.
func (e *env) streamed(p drivers.Part, number int, data []byte) {
	e.Helper()
	if want := (drivers.Part{Number: number, Size: int64(len(data)), Tag: p.Tag, CRC32C: drivers.UpdateCRC32C(0, data)}); p != want || p.Tag == "" {
		e.Errorf("StreamPart = %+v, want %+v with a tag", p, want)
	}
}

// stream streams parts of several sizes, from readers that return the bytes in
// different pieces.
func stream(e *env) {
	if !e.streams() {
		return
	}
	ctx := e.Context()
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"plain":             func(r io.Reader) io.Reader { return r },
		"halves":            iotest.HalfReader,
		"EOF-with-the-last": iotest.DataErrReader,
	} {
		var whole []byte
		var parts []drivers.Part
		u := e.start(e.a, "data/"+name)
		for i, size := range []int64{1, 4095, 4096, 4097, 1 << 20, 3_000_001} {
			data := e.bytes(size)
			p, err := e.a.StreamPart(ctx, u, i+1, wrap(bytes.NewReader(data)))
			e.must(err, "StreamPart of %d bytes, %s", size, name)
			e.streamed(p, i+1, data)
			whole, parts = append(whole, data...), append(parts, p)
		}
		data := e.text()
		whole, parts = append(whole, data...), append(parts, e.part(e.b, u, len(parts)+1, data))
		e.wrote(e.complete(e.b, u, parts...), whole)
	}

	u := e.start(e.a, "data/one-byte-reads")
	data := e.bytes(2000)
	p, err := e.a.StreamPart(ctx, u, 1, iotest.OneByteReader(bytes.NewReader(data)))
	e.must(err, "StreamPart byte by byte")
	e.wrote(e.complete(e.b, u, p), data)
}

// streamBroken streams bodies that fail, as when the client disconnects.
// Nothing may be stored, and the upload must continue to work.
func streamBroken(e *env) {
	if !e.streams() {
		return
	}
	ctx := e.Context()
	gone := errors.New("the client has left")
	u := e.start(e.a, "data/u")
	first := e.bytes(100_000)
	p1, err := e.a.StreamPart(ctx, u, 1, bytes.NewReader(first))
	e.must(err, "StreamPart")
	for _, n := range []int64{0, 1, 4096, 70_000, 2_000_000} {
		for _, number := range []int{1, 2} {
			p, err := e.b.StreamPart(ctx, u, number, io.MultiReader(bytes.NewReader(e.bytes(n)), iotest.ErrReader(gone)))
			if !errors.Is(err, gone) || outcome(err) != "error" {
				e.Errorf("StreamPart of a body that breaks after %d bytes = %+v, %v, want %v", n, p, err, gone)
			}
		}
	}
	_, err = e.b.StreamPart(ctx, u, 2, strings.NewReader(""))
	e.want(err, errOther, "StreamPart of an empty body")
	if p, err := e.b.StreamPart(ctx, u, 2, iotest.ErrReader(io.ErrUnexpectedEOF)); err == nil {
		e.Errorf("StreamPart of a body that fails at the start = %+v, want an error", p)
	}
	e.absent("data/u")
	last := e.bytes(10)
	p2, err := e.b.StreamPart(ctx, u, 2, bytes.NewReader(last))
	e.must(err, "StreamPart")
	e.wrote(e.complete(e.a, u, p1, p2), slices.Concat(first, last))
}

// endless is a reader without end. It cancels a context after some bytes.
type endless struct {
	cancel func()
	after  int // bytes
}

func (r *endless) Read(p []byte) (int, error) {
	if r.after -= len(p); r.after <= 0 {
		r.cancel()
	}
	return len(p), nil
}

// streamCancelled ends the context of a call that reads an endless body. The
// call must return.
func streamCancelled(e *env) {
	if !e.streams() {
		return
	}
	u := e.start(e.a, "data/u")
	for _, after := range []int{1, 1_000_000} {
		ctx, cancel := context.WithCancel(e.Context())
		_, err := e.a.StreamPart(ctx, u, 1, &endless{cancel, after})
		e.want(err, errOther, "StreamPart with a context that ends after %d bytes", after)
		cancel()
	}
	data := e.text()
	p, err := e.b.StreamPart(e.Context(), u, 1, bytes.NewReader(data))
	e.must(err, "StreamPart")
	e.wrote(e.complete(e.b, u, p), data)
}

// streamInParallel streams parts of one upload concurrently, first with different
// numbers and then with the same number.
func streamInParallel(e *env) {
	if !e.streams() {
		return
	}
	n := e.Workers
	u := e.start(e.a, "data/u")
	bodies, parts, errs := make([][]byte, n), make([]drivers.Part, n), make([]error, n)
	for i := range bodies {
		bodies[i] = e.bytes(int64(1 + 50_000*i))
	}
	e.race(n, func(i int, b drivers.Bucket) {
		parts[i], errs[i] = b.StreamPart(e.Context(), u, i+1, bytes.NewReader(bodies[i]))
	})
	e.must(errors.Join(errs...), "StreamPart of %d parts at once", n)
	e.wrote(e.complete(e.b, u, parts...), slices.Concat(bodies...))

	// Parts with the same number must have different tags.
	u = e.start(e.a, "data/same-number")
	e.race(n, func(i int, b drivers.Bucket) {
		parts[i], errs[i] = b.StreamPart(e.Context(), u, 1, bytes.NewReader(bodies[i]))
	})
	e.must(errors.Join(errs...), "StreamPart of one number by %d goroutines", n)
	seen := make(map[string]bool)
	for i, p := range parts {
		e.streamed(p, 1, bodies[i])
		if seen[p.Tag] {
			e.Errorf("StreamPart returns the tag %q for two bodies", p.Tag)
		}
		seen[p.Tag] = true
	}
	if e.Like.OverwriteParts {
		return
	}
	e.wrote(e.complete(e.b, u, parts[n/2]), bodies[n/2])
	if got := fmt.Sprint(keysOf(e.list(e.a, "", ""))); got != "[data/same-number data/u]" {
		e.Errorf("List() = %s, want [data/same-number data/u]", got)
	}
}
