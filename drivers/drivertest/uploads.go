package drivertest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berthhq/berth/drivers"
)

func uploadCases() []testCase {
	return []testCase{
		{"Upload", upload},
		{"UploadSmall", uploadSmall},
		{"UploadHidden", uploadHidden},
		{"PartNumbers", partNumbers},
		{"PartsInParallel", partsInParallel},
		{"ManyParts", manyParts},
		{"PartAgain", partAgain},
		{"PartReplaced", partReplaced},
		{"PartRace", partRace},
		{"Uploads", uploads},
		{"UploadsLarge", uploadsLarge},
	}
}

// unit returns a size that every part may have.
func (e *env) unit() int64 { return max(e.a.Limits().MinPart, 50_000) }

// start starts an upload, or ends the test.
func (e *env) start(b drivers.Bucket, key string) drivers.Upload {
	e.Helper()
	u, err := b.StartUpload(e.Context(), key)
	e.must(err, "StartUpload(%q)", key)
	if u.Key != key {
		e.Fatalf("StartUpload(%q) = %+v, want this key", key, u)
	}
	return u
}

// part stores data as a part, or ends the test.
func (e *env) part(b drivers.Bucket, u drivers.Upload, number int, data []byte) drivers.Part {
	e.Helper()
	p, err := b.PutPart(e.Context(), u, number, body(data))
	e.must(err, "PutPart(%q, %d)", u.Key, number)
	if want := (drivers.Part{Number: number, Size: int64(len(data)), Tag: p.Tag, CRC32C: drivers.UpdateCRC32C(0, data)}); p != want || p.Tag == "" {
		e.Errorf("PutPart(%q, %d) = %+v, want %+v with a tag", u.Key, number, p, want)
	}
	return p
}

// complete completes the upload with these parts, or ends the test.
func (e *env) complete(b drivers.Bucket, u drivers.Upload, parts ...drivers.Part) drivers.Object {
	e.Helper()
	o, err := b.Complete(e.Context(), u, parts, crcOf(parts))
	e.must(err, "Complete(%q) of %d parts", u.Key, len(parts))
	return o
}

// crcOf returns the checksum of the concatenated parts.
func crcOf(parts []drivers.Part) uint32 {
	var crc uint32
	for _, p := range parts {
		crc = drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	return crc
}

// recorded returns v after encoding to JSON and back, as in a session's record.
func recorded[T any](e *env, v T) T {
	e.Helper()
	data, err := json.Marshal(v)
	e.must(err, "Marshal(%+v)", v)
	var got T
	e.must(json.Unmarshal(data, &got), "Unmarshal(%s)", data)
	return got
}

// upload starts an upload with one replica and stores its parts out of order
// with two. A third replica, which has the parts only from records, completes
// it.
func upload(e *env) {
	unit := e.unit()
	u := recorded(e, e.start(e.a, "data/x/y"))
	first, second, last := e.bytes(unit), e.bytes(unit), e.bytes(7)
	p3 := e.part(e.b, u, 3, last)
	p1 := e.part(e.a, u, 1, first)
	p2 := e.part(e.b, u, 2, second)
	e.absent("data/x/y")

	parts := recorded(e, []drivers.Part{p1, p2, p3})
	whole := slices.Concat(first, second, last)
	e.wrote(e.complete(e.replica(), u, parts...), whole)

	for _, r := range [][2]int64{{0, 10}, {unit - 3, 6}, {unit, 1}, {2*unit - 1, 8}, {2 * unit, -1}, {unit - 1, unit + 2}, {2*unit + 6, 100}} {
		want := whole[r[0]:]
		if r[1] >= 0 {
			want = want[:min(r[1], int64(len(want)))]
		}
		got, _, err := read(e.Context(), e.a, "data/x/y", r[0], r[1])
		if err != nil || !bytes.Equal(got, want) {
			e.Errorf("Open(%d, %d) of three parts reads %s, %v, want %s", r[0], r[1], brief(got), err, brief(want))
		}
	}
}

// uploadSmall completes uploads of one part, which may be of any size.
func uploadSmall(e *env) {
	for _, size := range []int64{1, 100, e.unit() - 1, e.unit(), e.unit() + 1} {
		key := fmt.Sprintf("data/%d", size)
		data := e.bytes(size)
		u := e.start(e.a, key)
		e.wrote(e.complete(e.b, u, e.part(e.a, u, 1, data)), data)
	}
}

// uploadHidden checks that nothing of an upload in progress is visible.
func uploadHidden(e *env) {
	u := e.start(e.a, "data/u")
	e.part(e.a, u, 1, e.text())
	e.create(e.a, "data/existing", e.text())
	e.create(e.a, "z", e.text())
	for _, prefix := range []string{"", "data/", "p", "parts", drivers.PartsPrefix} {
		for _, o := range e.list(e.b, prefix, "") {
			if o.Key != "data/existing" && o.Key != "z" {
				e.Errorf("List(%q) returns %q", prefix, o.Key)
			}
		}
	}
	for _, after := range []string{"o", "parts", drivers.PartsPrefix} {
		if got := keysOf(e.list(e.b, "", after)); !slices.Equal(got, []string{"z"}) {
			e.Errorf("List after %q = %q, want only z", after, got)
		}
	}
	e.absent("data/u")
	data := e.text()
	e.wrote(e.create(e.b, "data/u", data), data)
}

// partNumbers stores parts with gaps between their numbers, and with numbers that
// the driver must refuse.
func partNumbers(e *env) {
	unit := e.unit()
	most := e.a.Limits().MaxParts
	u := e.start(e.a, "data/gaps")
	var parts []drivers.Part
	var whole []byte
	for _, n := range []int{2, 9, 10, 11, 100, most - 1, most} {
		data := e.bytes(unit)
		whole = append(whole, data...)
		parts = append(parts, e.part(e.a, u, n, data))
	}
	e.wrote(e.complete(e.b, u, parts...), whole)
	for _, n := range []int{-1, 0, most + 1} {
		u := e.start(e.a, "data/none")
		_, err := e.a.PutPart(e.Context(), u, n, body(e.text()))
		e.want(err, errOther, "PutPart with the number %d", n)
	}
}

// partsInParallel stores the parts of one upload concurrently.
func partsInParallel(e *env) {
	unit := e.unit()
	n := max(3, min(e.Workers, int(40_000_000/unit)))
	u := e.start(e.a, "data/p")
	bodies, parts := make([][]byte, n), make([]drivers.Part, n)
	for i := range bodies {
		bodies[i] = e.bytes(unit)
	}
	errs := make([]error, n)
	e.race(n, func(i int, b drivers.Bucket) {
		parts[i], errs[i] = b.PutPart(e.Context(), u, i+1, body(bodies[i]))
	})
	e.must(errors.Join(errs...), "PutPart of %d parts at once", n)
	e.wrote(e.complete(e.b, u, parts...), slices.Concat(bodies...))
}

// manyParts creates an object of Parts parts, or of fewer if the store allows
// fewer. If the store has a minimum size, the object has at most 64 MiB.
func manyParts(e *env) {
	limits := e.a.Limits()
	size := max(limits.MinPart, 10)
	n := max(2, min(e.Parts, limits.MaxParts, int(64<<20/size)))
	e.Logf("%d parts of %d bytes", n, size)
	u := e.start(e.a, "data/many")
	whole := e.bytes(int64(n) * size)
	parts := make([]drivers.Part, n)
	e.each(n, func(i int, b drivers.Bucket) (err error) {
		parts[i], err = b.PutPart(e.Context(), u, i+1, body(whole[int64(i)*size:int64(i+1)*size]))
		return err
	})
	e.wrote(e.complete(e.b, u, parts...), whole)
}

// partAgain stores the same bytes under the same number more than once, as a
// client does that lost the response. Complete must accept the result of every
// call.
func partAgain(e *env) {
	for i := range 3 {
		data, last := e.bytes(e.unit()), e.text()
		u := e.start(e.a, fmt.Sprintf("data/%d", i))
		tries := []drivers.Part{e.part(e.a, u, 1, data), e.part(e.b, u, 1, data), e.part(e.a, u, 1, data)}
		p2 := e.part(e.b, u, 2, last)
		e.wrote(e.complete(e.b, u, tries[i], p2), slices.Concat(data, last))
	}
}

// partReplaced stores other bytes of the same size and checksum under the same
// number. The result of the first call identifies the first bytes only:
// completing with it must publish exactly those bytes, or fail.
func partReplaced(e *env) {
	first, other, last := e.bytes(e.unit()), e.bytes(e.unit()), e.text()
	Forge(other, drivers.UpdateCRC32C(0, first))
	u := e.start(e.a, "data/old")
	old := e.part(e.a, u, 1, first)
	p2 := e.part(e.a, u, 2, last)
	current := e.part(e.b, u, 1, other)
	if old.Tag == current.Tag {
		e.Errorf("PutPart of other bytes returns the same tag %q", old.Tag)
	}
	parts := []drivers.Part{old, p2}
	o, err := e.a.Complete(e.Context(), u, parts, crcOf(parts))
	if e.Like.OverwriteParts {
		e.want(err, drivers.ErrChanged, "Complete with a part that was replaced")
		e.absent("data/old")
		e.wrote(e.complete(e.a, u, current, p2), slices.Concat(other, last))
	} else {
		e.must(err, "Complete with the first of two parts of one number")
		e.wrote(o, slices.Concat(first, last))
	}

	u = e.start(e.a, "data/new")
	e.part(e.a, u, 1, first)
	current = e.part(e.b, u, 1, other)
	e.wrote(e.complete(e.a, u, current), other)
}

// partRace lets many goroutines store different bytes under one number. It then
// completes with each result, in the order in which they were returned, until
// one Complete succeeds. The object must have the bytes of that part.
func partRace(e *env) {
	n := min(e.Workers, 6)
	u := e.start(e.a, "data/r")
	bodies, parts, errs := make([][]byte, n), make([]drivers.Part, n), make([]error, n)
	for i := range bodies {
		bodies[i] = e.bytes(e.unit())
	}
	order := make(chan int, n)
	e.race(n, func(i int, b drivers.Bucket) {
		parts[i], errs[i] = b.PutPart(e.Context(), u, 1, body(bodies[i]))
		order <- i
	})
	close(order)
	e.must(errors.Join(errs...), "PutPart by %d goroutines", n)
	for i := range order {
		p := parts[i]
		o, err := e.b.Complete(e.Context(), u, []drivers.Part{p}, p.CRC32C)
		if err == nil {
			e.wrote(o, bodies[i])
			return
		}
		e.want(err, drivers.ErrChanged, "Complete with the part of %d, out of %d", i, n)
		e.absent("data/r")
	}
	e.Errorf("Complete accepts none of the %d stored parts", n)
}

// inProgress returns the key and id of every upload that Uploads returns.
func (e *env) inProgress(b drivers.Bucket, prefix string) []string {
	e.Helper()
	var found []string
	for u, err := range b.Uploads(e.Context(), prefix) {
		e.must(err, "Uploads(%q)", prefix)
		if u.Started.IsZero() || u.Started.After(time.Now().Add(48*time.Hour)) {
			e.Errorf("Uploads(%q) returns %+v, want its start", prefix, u)
		}
		found = append(found, u.Key+" "+u.ID)
	}
	slices.Sort(found)
	return found
}

// uploads checks the listing of uploads, some of the same key, while they are in
// progress and after they were completed or aborted. Every upload has a part, because some
// stores do not list an upload without parts.
func uploads(e *env) {
	var all []drivers.Upload
	var parts []drivers.Part
	for _, key := range []string{"data/a/1", "data/a/1", "data/a/2", "data/b/1", "data/b-", "data/c"} {
		u := e.start(e.a, key)
		all = append(all, u)
		parts = append(parts, e.part(e.b, u, 1, e.text()))
	}
	check := func(when string, over ...int) {
		e.Helper()
		for _, prefix := range []string{"", "data/", "data/a", "data/a/", "data/a/1", "data/b", "data/c/", "x"} {
			var want []string
			for i, u := range all {
				if len(u.Key) >= len(prefix) && u.Key[:len(prefix)] == prefix && !slices.Contains(over, i) && !e.Like.DropsParts {
					want = append(want, u.Key+" "+u.ID)
				}
			}
			slices.Sort(want)
			if got := e.inProgress(e.b, prefix); !slices.Equal(got, want) {
				e.Errorf("%s, Uploads(%q) = %q, want %q", when, prefix, got, want)
			}
		}
	}
	check("in progress")
	e.complete(e.a, all[0], parts[0])
	check("after one was completed", 0)
	e.want(e.b.Abort(e.Context(), all[2]), nil, "Abort")
	check("after another was aborted", 0, 2)
	for u, err := range e.a.Uploads(e.Context(), "") {
		e.must(err, "Uploads")
		e.want(e.b.Abort(e.Context(), u), nil, "Abort during the listing")
	}
	check("after all were aborted", 0, 1, 2, 3, 4, 5)
}

// uploadsLarge has more uploads in progress than fit on one page of a listing.
func uploadsLarge(e *env) {
	if e.Like.DropsParts {
		e.Skip("this store does not list uploads")
	}
	n := min(e.Keys, pageSize+100)
	want := make([]string, n)
	all := make([]drivers.Upload, n)
	e.each(n, func(i int, b drivers.Bucket) (err error) {
		if all[i], err = b.StartUpload(e.Context(), fmt.Sprintf("data/%d/%d", i%3, i/2)); err == nil {
			_, err = b.PutPart(e.Context(), all[i], 1, body(e.text()))
		}
		want[i] = all[i].Key + " " + all[i].ID
		return err
	})
	slices.Sort(want)
	got := e.inProgress(e.a, "")
	if i := firstDifference(got, want); i >= 0 {
		e.Errorf("Uploads() returns %d, want %d; the first difference is at index %d", len(got), len(want), i)
	}
	e.each(n, func(i int, b drivers.Bucket) error { return b.Abort(e.Context(), all[i]) })
	if got := e.inProgress(e.a, ""); len(got) > 0 {
		e.Errorf("Uploads after Abort of all returns %d, want none", len(got))
	}
}
