package drivertest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/berthhq/berth/drivers"
)

func completeCases() []testCase {
	return []testCase{
		{"CompleteForged", completeForged},
		{"CompleteChecksum", completeChecksum},
		{"CompleteTwice", completeTwice},
		{"CompleteRace", completeRace},
		{"CompleteTaken", completeTaken},
		{"CompleteCreateRace", completeCreateRace},
		{"CompleteAborted", completeAborted},
		{"CompleteLeftover", completeLeftover},
		{"AbortCompleted", abortCompleted},
		{"AbortRace", abortRace},
	}
}

// completeForged completes with parts that do not exist, or that differ from
// the stored ones.
func completeForged(e *env) {
	ctx := e.Context()
	data, last := e.bytes(e.unit()), e.text()
	u, other := e.start(e.a, "data/u"), e.start(e.a, "data/other")
	p1, p2 := e.part(e.a, u, 1, data), e.part(e.a, u, 2, last)
	foreign := e.part(e.a, other, 1, e.bytes(e.unit()))
	with := func(p drivers.Part, tag string) drivers.Part { p.Tag = tag; return p }
	for name, parts := range map[string][]drivers.Part{
		"the tag of another part":   {with(p1, p2.Tag), p2},
		"the tag of another upload": {with(p1, foreign.Tag), p2},
		"a part of another upload":  {foreign, p2},
		"a malformed tag":           {with(p1, "nonsense"), p2},
		"an empty tag":              {with(p1, ""), p2},
		"no such part":              {p1, {Number: 3, Size: p2.Size, Tag: p2.Tag, CRC32C: p2.CRC32C}},
		"no parts":                  {},
	} {
		o, err := e.b.Complete(ctx, u, parts, crcOf(parts))
		if err == nil {
			e.Fatalf("Complete with %s = %+v, want an error", name, o)
		}
		if got := outcome(err); len(parts) > 0 && got != outcome(drivers.ErrChanged) && (got != outcome(drivers.ErrNotFound) || name != "no such part") {
			e.Errorf("Complete with %s = %v (%s), want %v", name, err, got, drivers.ErrChanged)
		}
		e.absent("data/u")
	}
	e.wrote(e.complete(e.b, u, p1, p2), slices.Concat(data, last))
}

// completeChecksum completes with a checksum that differs from that of the parts.
func completeChecksum(e *env) {
	data, last := e.bytes(e.unit()), e.text()
	u := e.start(e.a, "data/u")
	parts := []drivers.Part{e.part(e.a, u, 1, data), e.part(e.a, u, 2, last)}
	_, err := e.b.Complete(e.Context(), u, parts, crcOf(parts)+1)
	e.want(err, errOther, "Complete with a wrong checksum")
	e.absent("data/u")
	e.wrote(e.complete(e.b, u, parts...), slices.Concat(data, last))
}

// completeTwice repeats Complete, as a client does after a lost response.
func completeTwice(e *env) {
	data, last := e.bytes(e.unit()), e.text()
	u := e.start(e.a, "data/u")
	parts := []drivers.Part{e.part(e.a, u, 1, data), e.part(e.a, u, 2, last)}
	e.complete(e.a, u, parts...)
	for range 2 {
		for _, b := range []drivers.Bucket{e.a, e.b} {
			e.wrote(e.complete(b, u, parts...), slices.Concat(data, last))
		}
	}
}

// completeRace lets many goroutines complete one upload. All of them must
// succeed.
func completeRace(e *env) {
	for round := range 3 {
		data, last := e.bytes(e.unit()), e.text()
		u := e.start(e.a, fmt.Sprintf("data/%d", round))
		parts := []drivers.Part{e.part(e.a, u, 1, data), e.part(e.a, u, 2, last)}
		objects, errs := make([]drivers.Object, e.Workers), make([]error, e.Workers)
		e.race(e.Workers, func(i int, b drivers.Bucket) {
			objects[i], errs[i] = b.Complete(e.Context(), u, parts, crcOf(parts))
		})
		e.must(errors.Join(errs...), "Complete by %d goroutines", e.Workers)
		e.wrote(objects[0], slices.Concat(data, last))
		for i, o := range objects {
			if o.Modified = objects[0].Modified; o != objects[0] {
				e.Errorf("two calls of Complete return %+v and %+v, want equal objects", objects[0], objects[i])
			}
		}
	}
}

// completeTaken completes an upload onto a taken key. Complete must return
// the existing object and leave it unchanged.
func completeTaken(e *env) {
	for _, when := range []string{"before", "between", "after"} {
		key := "data/" + when
		existing := e.text()
		take := func(at string) {
			if at == when {
				e.create(e.b, key, existing)
			}
		}
		take("before")
		u := e.start(e.a, key)
		take("between")
		p := e.part(e.a, u, 1, e.text())
		take("after")
		e.wrote(e.complete(e.a, u, p), existing)
		e.want(e.a.Abort(e.Context(), u), nil, "Abort after Complete onto another object")
		e.holds(key, existing)
	}

	// Two uploads of one key: the second Complete returns the object of the
	// first.
	data := e.text()
	u, v := e.start(e.a, "data/two"), e.start(e.b, "data/two")
	if u.ID == v.ID {
		e.Errorf("StartUpload twice returns the same id %q", u.ID)
	}
	pu, pv := e.part(e.a, u, 1, data), e.part(e.b, v, 1, e.text())
	e.wrote(e.complete(e.a, u, pu), data)
	e.wrote(e.complete(e.b, v, pv), data)
}

// completeCreateRace lets Complete and Create race for a key. One of them
// creates the object, and the object is never replaced.
func completeCreateRace(e *env) {
	for round := range 8 {
		key := fmt.Sprintf("data/%d", round)
		data, created := e.text(), e.text()
		u := e.start(e.a, key)
		p := e.part(e.a, u, 1, data)
		var completed, taken error
		e.race(2, func(i int, b drivers.Bucket) {
			if i == round%2 {
				_, completed = b.Complete(e.Context(), u, []drivers.Part{p}, p.CRC32C)
			} else {
				_, taken = b.Create(e.Context(), key, body(created))
			}
		})
		e.want(completed, nil, "Complete(%q) during a Create", key)
		if taken == nil {
			e.holds(key, created)
		} else {
			e.want(taken, drivers.ErrExists, "Create(%q) during a Complete", key)
			e.holds(key, data)
		}
	}
}

// completeAborted completes an upload that was aborted, several times.
func completeAborted(e *env) {
	ctx := e.Context()
	data := e.text()
	u := e.start(e.a, "data/u")
	p := e.part(e.a, u, 1, data)
	for _, b := range []drivers.Bucket{e.b, e.a, e.b} {
		e.want(b.Abort(ctx, u), nil, "Abort")
	}
	if e.Like.DropsParts {
		e.Log("Abort leaves the parts to the store: the upload can still be completed")
		e.wrote(e.complete(e.b, u, p), data)
		return
	}
	_, err := e.b.Complete(ctx, u, []drivers.Part{p}, p.CRC32C)
	e.want(err, drivers.ErrNotFound, "Complete after Abort")
	e.absent("data/u")
	_, err = e.a.PutPart(ctx, u, 2, body(e.text()))
	if e.Like.Sessionless {
		e.want(err, nil, "PutPart after Abort in a sessionless store")
	} else {
		e.want(err, drivers.ErrNotFound, "PutPart after Abort")
	}
	e.want(e.b.Abort(ctx, u), nil, "Abort again")
	e.absent("data/u")
}

// completeLeftover stores parts that Complete does not name, and another part
// after Complete. The object must contain none of them, and Abort must delete
// any that are left.
func completeLeftover(e *env) {
	data := e.bytes(e.unit())
	u := e.start(e.a, "data/u")
	p1 := e.part(e.a, u, 1, data)
	e.part(e.a, u, 2, e.bytes(e.unit()))
	e.part(e.b, u, 3, e.text())
	o := e.complete(e.b, u, p1)
	e.wrote(o, data)
	_, err := e.a.PutPart(e.Context(), u, 1, body(e.text()))
	if e.Like.Sessionless {
		e.want(err, nil, "PutPart after Complete in a sessionless store")
	} else {
		e.want(err, drivers.ErrNotFound, "PutPart after Complete")
	}
	e.wrote(o, data)
	e.want(e.a.Abort(e.Context(), u), nil, "Abort after Complete")
	if got := e.inProgress(e.b, ""); len(got) > 0 {
		e.Errorf("after Complete and Abort, Uploads() = %q", got)
	}
	e.wrote(o, data)
}

// abortCompleted aborts an upload that was completed. The object must stay.
func abortCompleted(e *env) {
	data, last := e.bytes(e.unit()), e.text()
	u := e.start(e.a, "data/u")
	parts := []drivers.Part{e.part(e.a, u, 1, data), e.part(e.a, u, 2, last)}
	o := e.complete(e.a, u, parts...)
	for _, b := range []drivers.Bucket{e.a, e.b} {
		e.want(b.Abort(e.Context(), u), nil, "Abort after Complete")
		e.wrote(o, slices.Concat(data, last))
		e.wrote(e.complete(b, u, parts...), slices.Concat(data, last))
	}
}

// abortRace lets one goroutine abort an upload that another completes.
// Afterwards either the object is whole or the upload is gone.
func abortRace(e *env) {
	for round := range 10 {
		key := fmt.Sprintf("data/%d", round)
		data, last := e.bytes(e.unit()), e.text()
		u := e.start(e.a, key)
		parts := []drivers.Part{e.part(e.a, u, 1, data), e.part(e.a, u, 2, last)}
		var completed, aborted error
		e.race(2, func(i int, b drivers.Bucket) {
			if i == round%2 {
				_, completed = b.Complete(e.Context(), u, parts, crcOf(parts))
			} else {
				aborted = b.Abort(e.Context(), u)
			}
		})
		e.want(aborted, nil, "Abort(%q) during a Complete", key)
		switch outcome(completed) {
		case "success":
			e.holds(key, slices.Concat(data, last))
		case outcome(drivers.ErrNotFound), outcome(drivers.ErrChanged):
			e.absent(key)
		default:
			e.Errorf("Complete(%q) during an Abort = %v, want success, %v or %v", key, completed, drivers.ErrNotFound, drivers.ErrChanged)
		}
	}
}
