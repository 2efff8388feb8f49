package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berthhq/berth/drivers"
)

func cancelCases() []testCase {
	return []testCase{
		{"Cancelled", cancelled},
		{"CancelWrites", cancelWrites},
		{"CancelParts", cancelParts},
		{"CancelRead", cancelRead},
	}
}

// cancelled makes every call with a context that has already ended. Calls that
// need the store must fail, with an error that makes no claim about the key.
func cancelled(e *env) {
	data := e.text()
	o := e.create(e.a, "k", data)
	u := e.start(e.a, "data/u")
	part := e.text()
	p := e.part(e.a, u, 1, part)
	ctx, cancel := context.WithCancel(e.Context())
	cancel()

	_, err := e.a.Create(ctx, "l", body(data))
	e.want(err, errOther, "Create, cancelled")
	_, err = e.a.Create(ctx, "k", body(data))
	e.want(err, errOther, "Create of a taken key, cancelled")
	_, err = e.a.Replace(ctx, "k", o.Tag, body(e.text()))
	e.want(err, errOther, "Replace, cancelled")
	e.want(e.a.DeleteIf(ctx, "k", o.Tag), errOther, "DeleteIf, cancelled")
	e.want(e.a.Delete(ctx, "k"), errOther, "Delete, cancelled")
	_, _, err = read(ctx, e.a, "k", 0, -1)
	e.want(err, errOther, "Open, cancelled")
	_, _, err = read(ctx, e.a, "absent", 0, -1)
	e.want(err, errOther, "Open of an absent key, cancelled")
	_, err = e.a.Stat(ctx, "absent")
	e.want(err, errOther, "Stat, cancelled")
	var last error
	n := 0
	for _, err := range e.a.List(ctx, "", "", 0) {
		last = err
		n++
	}
	e.want(last, errOther, "List, cancelled, after %d", n)
	_, err = e.a.PutPart(ctx, u, 1, body(e.text()))
	e.want(err, errOther, "PutPart, cancelled")
	_, err = e.a.Complete(ctx, u, []drivers.Part{p}, p.CRC32C)
	e.want(err, errOther, "Complete, cancelled")

	// These three calls may need no request to the store.
	_, err = e.a.StartUpload(ctx, "data/v")
	e.wantNoClaim(err, "StartUpload, cancelled")
	for _, err := range e.a.Uploads(ctx, "") {
		e.wantNoClaim(err, "Uploads, cancelled")
	}
	v := e.start(e.a, "data/v")
	e.wantNoClaim(e.a.Abort(ctx, v), "Abort, cancelled")

	e.absent("l")
	e.absent("data/u")
	e.wrote(o, data)
	e.wrote(e.complete(e.b, u, p), part)
}

// wantNoClaim fails the test if err wraps a sentinel.
func (e *env) wantNoClaim(err error, what string) {
	e.Helper()
	if got := outcome(err); got != "success" && got != "error" {
		e.Errorf("%s = %v (%s), want an error that makes no claim", what, err, got)
	}
}

// moments are the times after which the contexts of the cases below end. They
// range from too short for any progress to long enough.
var moments = []time.Duration{0, 50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 300 * time.Microsecond,
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond, 8 * time.Millisecond, 20 * time.Millisecond}

// cancelWrites ends the context in the middle of a write, as when a writer is
// killed. Afterwards the key must hold either its earlier content or the whole
// new content.
func cancelWrites(e *env) {
	for i, moment := range moments {
		key := fmt.Sprintf("k/%d", i)
		data := e.bytes(500_000)
		o, created := cancelCreate(e, key, data, moment)
		if !created {
			continue
		}
		o, settled := cancelReplace(e, o, data, moment)
		cancelDeleteIf(e, o, settled, moment)
	}
}

// cancelCreate ends the context of a Create after a time. It returns the object,
// and whether it exists.
func cancelCreate(e *env, key string, data []byte, after time.Duration) (drivers.Object, bool) {
	ctx, cancel := context.WithTimeout(e.Context(), after)
	_, err := e.a.Create(ctx, key, body(data))
	cancel()
	e.wantNoClaim(err, "Create, cancelled")
	got, o, readErr := read(e.Context(), e.b, key, 0, -1)
	if readErr == nil && bytes.Equal(got, data) {
		return o, true
	}
	if err == nil || outcome(readErr) != outcome(drivers.ErrNotFound) {
		e.Errorf("after Create = %v, Open(%q) reads %s, %v", err, key, brief(got), readErr)
	}
	return drivers.Object{}, false
}

// cancelReplace ends the context of a Replace of data after a time. It returns the
// object, and whether the Replace has certainly ended.
func cancelReplace(e *env, o drivers.Object, data []byte, after time.Duration) (_ drivers.Object, settled bool) {
	next := e.bytes(400_000)
	ctx, cancel := context.WithTimeout(e.Context(), after)
	_, err := e.a.Replace(ctx, o.Key, o.Tag, body(next))
	cancel()
	e.wantNoClaim(err, "Replace, cancelled")
	got, now, readErr := read(e.Context(), e.b, o.Key, 0, -1)
	if readErr != nil || !bytes.Equal(got, next) && (err == nil || !bytes.Equal(got, data)) {
		e.Errorf("after Replace = %v, Open(%q) reads %s, %v", err, o.Key, brief(got), readErr)
	}
	return now, err == nil
}

// cancelDeleteIf ends the context of a DeleteIf after a time. Unless settled is
// set, a Replace may still take effect before it.
func cancelDeleteIf(e *env, o drivers.Object, settled bool, after time.Duration) {
	ctx, cancel := context.WithTimeout(e.Context(), after)
	err := e.a.DeleteIf(ctx, o.Key, o.Tag)
	cancel()
	if settled || !errors.Is(err, drivers.ErrChanged) {
		e.wantNoClaim(err, "DeleteIf, cancelled")
	}
	_, readErr := e.b.Stat(e.Context(), o.Key)
	if readErr == nil && err == nil || readErr != nil && outcome(readErr) != outcome(drivers.ErrNotFound) {
		e.Errorf("after DeleteIf = %v, Stat(%q) = %v", err, o.Key, readErr)
	}
}

// cancelParts ends the context in the middle of PutPart and of Complete. The
// upload must continue as if those calls had not been made.
func cancelParts(e *env) {
	for i, moment := range moments {
		key := fmt.Sprintf("data/%d", i)
		data, last := e.bytes(e.unit()), e.text()
		u := e.start(e.a, key)
		ctx, cancel := context.WithTimeout(e.Context(), moment)
		_, err := e.a.PutPart(ctx, u, 1, body(data))
		cancel()
		e.wantNoClaim(err, "PutPart, cancelled")
		parts := []drivers.Part{e.part(e.b, u, 1, data), e.part(e.b, u, 2, last)}
		ctx, cancel = context.WithTimeout(e.Context(), moment)
		_, err = e.a.Complete(ctx, u, parts, crcOf(parts))
		cancel()
		e.wantNoClaim(err, "Complete, cancelled")
		e.wrote(e.complete(e.b, u, parts...), slices.Concat(data, last))
	}
}

// cancelRead ends the context of a read in progress.
func cancelRead(e *env) {
	data := e.bytes(3_000_000)
	e.create(e.a, "k", data)
	ctx, cancel := context.WithCancel(e.Context())
	r, _, err := e.a.Open(ctx, "k", 0, -1)
	e.must(err, "Open")
	got := make([]byte, 1000)
	n, err := r.Read(got)
	e.must(err, "Read")
	cancel()
	buf := make([]byte, 100_000)
	for n < len(data) {
		if !bytes.Equal(got[:n], data[:n]) {
			e.Fatalf("the first %d bytes of the read differ from the object", n)
		}
		m, err := r.Read(buf)
		got = append(got[:n], buf[:m]...)
		n += m
		if err != nil {
			break
		}
	}
	if !bytes.Equal(got[:n], data[:n]) {
		e.Errorf("a cancelled read returns %d bytes that differ from the object", n)
	}
	if err := r.Close(); err != nil {
		e.Errorf("Close after the context ended = %v", err)
	}
	e.holds("k", data)
}
