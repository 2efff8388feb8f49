package drivertest

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/berthhq/berth/drivers"
)

func objectCases() []testCase {
	return []testCase{
		{"Create", create},
		{"CreateTaken", createTaken},
		{"CreateRace", createRace},
		{"EmptyBody", emptyBody},
		{"BodyChecksum", bodyChecksum},
		{"BodyIsCopied", bodyIsCopied},
		{"Absent", absentKeys},
		{"Ranges", ranges},
		{"ReadReplaced", readReplaced},
		{"Delete", deleteKeys},
		{"Keys", oddKeys},
	}
}

// create creates objects of several sizes.
func create(e *env) {
	for _, n := range []int64{1, 2, 1000, 100_000, 3_000_000} {
		data := e.bytes(n)
		e.wrote(e.create(e.a, fmt.Sprintf("size/%d", n), data), data)
	}
}

// createTaken creates an object under a taken key.
func createTaken(e *env) {
	data := e.text()
	before := e.create(e.a, "k", data)
	for _, b := range []drivers.Bucket{e.a, e.b} {
		_, err := b.Create(e.Context(), "k", body(e.text()))
		e.want(err, drivers.ErrExists, "Create of a taken key")
		_, err = b.Create(e.Context(), "k", body(data))
		e.want(err, drivers.ErrExists, "Create of a taken key, with the same body")
	}
	e.wrote(before, data)
}

// createRace lets many goroutines create one key. Exactly one must win.
func createRace(e *env) {
	for _, key := range []string{"r/1", "r/2", "r/3", "r/4", "r/5", "r/6"} {
		bodies := make([][]byte, e.Workers)
		errs := make([]error, e.Workers)
		for i := range bodies {
			bodies[i] = e.bytes(int64(1 + 5000*i))
		}
		e.race(e.Workers, func(i int, b drivers.Bucket) {
			_, errs[i] = b.Create(e.Context(), key, body(bodies[i]))
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err != nil:
				e.want(err, drivers.ErrExists, "Create(%q), one of %d", key, e.Workers)
			case winner >= 0:
				e.Errorf("Create(%q) succeeded for %d and for %d", key, winner, i)
			default:
				winner = i
			}
		}
		if winner < 0 {
			e.Fatalf("Create(%q) succeeded for none of %d", key, e.Workers)
		}
		e.holds(key, bodies[winner])
	}
}

// emptyBody makes each write with an empty body, which the driver must refuse.
func emptyBody(e *env) {
	data := e.text()
	o := e.create(e.a, "k", data)
	_, err := e.a.Create(e.Context(), "empty", drivers.Body{})
	e.want(err, errOther, "Create with an empty body")
	_, err = e.a.Replace(e.Context(), "k", o.Tag, drivers.Body{})
	e.want(err, errOther, "Replace with an empty body")
	u := e.start(e.a, "data/u")
	_, err = e.a.PutPart(e.Context(), u, 1, drivers.Body{})
	e.want(err, errOther, "PutPart with an empty body")
	e.absent("empty")
	e.wrote(o, data)
}

// bodyChecksum sends bodies with a wrong checksum, as if memory or the network
// had failed.
func bodyChecksum(e *env) {
	data := e.text()
	o := e.create(e.a, "k", data)
	bad := body(e.text())
	bad.CRC32C++
	_, err := e.a.Create(e.Context(), "bad", bad)
	e.want(err, errOther, "Create with a wrong checksum")
	if !e.DataOnly {
		_, err = e.a.Replace(e.Context(), "k", o.Tag, bad)
		e.want(err, errOther, "Replace with a wrong checksum")
	}
	u := e.start(e.a, "data/u")
	_, err = e.a.PutPart(e.Context(), u, 1, bad)
	e.want(err, errOther, "PutPart with a wrong checksum")
	e.absent("bad")
	e.wrote(o, data)
}

// bodyIsCopied overwrites a body's memory after each call, as a buffer pool
// does.
func bodyIsCopied(e *env) {
	buf := make([]byte, e.unit())
	fill := func() []byte {
		data := e.bytes(int64(len(buf)))
		copy(buf, data)
		return data
	}
	data := fill()
	o, err := e.a.Create(e.Context(), "k", drivers.NewBody(buf))
	e.must(err, "Create")
	part := fill()
	e.holds("k", data)
	if !e.DataOnly {
		_, err = replace(e.Context(), e.a, "k", o.Tag, buf)
		e.must(err, "Replace")
		part, data = fill(), part
		e.holds("k", data)
	}
	u := e.start(e.a, "data/u")
	p, err := e.a.PutPart(e.Context(), u, 1, drivers.NewBody(buf))
	e.must(err, "PutPart")
	fill()
	e.complete(e.a, u, p)
	e.holds("data/u", part)
}

// absentKeys makes each call with keys that are absent, some of them close to a key
// that exists.
func absentKeys(e *env) {
	ctx := e.Context()
	existing := e.text()
	e.create(e.a, "key/existing", existing)
	for _, key := range []string{"absent", "key", "key/exist", "key/existing2", "key/existing2/below", "key/a/b/c"} {
		e.absent(key)
		_, _, err := e.a.Open(ctx, key, 5, 5)
		e.want(err, drivers.ErrNotFound, "Open(%q, 5, 5)", key)
		if !e.DataOnly {
			_, err = e.a.Replace(ctx, key, "tag", body(e.text()))
			e.want(err, drivers.ErrChanged, "Replace(%q)", key)
			e.want(e.a.DeleteIf(ctx, key, "tag"), nil, "DeleteIf(%q)", key)
		}
		e.want(e.a.Delete(ctx, key), nil, "Delete(%q)", key)
		e.absent(key)
	}
	e.holds("key/existing", existing)
}

// ranges reads ranges that start and end at every interesting place.
func ranges(e *env) {
	for _, size := range []int64{1, 10, 100_000} {
		key := fmt.Sprintf("size/%d", size)
		data := e.bytes(size)
		o := e.create(e.a, key, data)
		o.Modified = e.holds(key, data).Modified
		for _, off := range []int64{0, 1, 4, size / 2, size - 1, size, size + 1, 2 * size, math.MaxInt64 - 1} {
			for _, n := range []int64{-1, 1, 2, size / 2, size - 1, size, size + 1, math.MaxInt64} {
				if n == 0 {
					continue
				}
				got, info, err := read(e.Context(), e.b, key, off, n)
				if off > 0 && off >= size {
					e.want(err, drivers.ErrRange, "Open(%q, %d, %d) of %d bytes", key, off, n, size)
					continue
				}
				want := data[off:]
				if n >= 0 {
					want = want[:min(n, int64(len(want)))]
				}
				if err != nil || !bytes.Equal(got, want) {
					e.Errorf("Open(%q, %d, %d) reads %s, %v, want %s", key, off, n, brief(got), err, brief(want))
				} else if info != o {
					e.Errorf("Open(%q, %d, %d) = %+v, want %+v", key, off, n, info, o)
				}
			}
		}
	}
}

// readReplaced replaces or deletes the object while it is read. The read may
// fail or continue, but must never return a byte of another version.
func readReplaced(e *env) {
	ctx := e.Context()
	const size = 3_000_000
	for _, n := range []int64{-1, size - 1} {
		for _, how := range []string{"replaced", "deleted", "created-again"} {
			key := fmt.Sprintf("%s/%d", how, n+1)
			data := e.bytes(size)
			o := e.create(e.a, key, data)
			r, _, err := e.b.Open(ctx, key, 0, n)
			e.must(err, "Open(%q, 0, %d)", key, n)
			got := make([]byte, 1, size)
			_, err = io.ReadFull(r, got)
			e.must(err, "the first byte of %q", key)

			if how == "replaced" {
				_, err = replace(ctx, e.a, key, o.Tag, e.bytes(size))
			} else {
				err = e.a.DeleteIf(ctx, key, o.Tag)
			}
			e.must(err, "%q being %s", key, how)
			if how == "created-again" {
				e.create(e.a, key, e.bytes(size))
			}

			rest := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
			_, err = rest.ReadFrom(r)
			got = append(got, rest.Bytes()...)
			want := data
			if n >= 0 {
				want = data[:n]
			}
			if !bytes.HasPrefix(want, got) || err == nil && len(got) < len(want) {
				e.Errorf("Open(%q, 0, %d), while it was %s, reads %s, %v, want %s or an error", key, n, how, brief(got), err, brief(want))
			}
			if err := r.Close(); err != nil {
				e.Errorf("Close of the reader of %q = %v", key, err)
			}
		}
	}
}

// deleteKeys deletes no key, one key, and several keys at once.
func deleteKeys(e *env) {
	ctx := e.Context()
	e.want(e.a.Delete(ctx), nil, "Delete of no keys")
	kept := e.text()
	e.create(e.a, "d/kept", kept)
	for _, key := range []string{"d/1", "d/2", "d/3", "e/f/1", "e/f/2"} {
		e.create(e.a, key, e.text())
	}
	e.want(e.b.Delete(ctx, "d/1"), nil, "Delete of one key")
	e.absent("d/1")
	e.want(e.b.Delete(ctx, "d/1", "d/2", "d/absent", "d/3", "d/2", "x/y/absent"), nil, "Delete of keys, some of them absent or repeated")
	e.want(e.b.Delete(ctx, "e/f/1", "e/f/2"), nil, "Delete of all keys with a prefix")
	if got := keysOf(e.list(e.a, "", "")); !slices.Equal(got, []string{"d/kept"}) {
		e.Errorf("List after Delete = %q, want only d/kept", got)
	}
	e.holds("d/kept", kept)
	for _, key := range []string{"d/1", "e/f/1"} {
		data := e.text()
		e.wrote(e.create(e.b, key, data), data)
	}
}

// oddKeys uses keys that CheckKey allows and that a store may handle wrongly.
func oddKeys(e *env) {
	long := strings.Repeat("s", 255)
	keys := []string{
		"0", "A", "a", "Z", ".hidden", "..a", "...", "a..", "-", "-a", "--", "_", "!", "+", ":", "a!b+c-d.e_f:g",
		"a.b/c", "a-b", "a0", "Aa", "aA", "AA", "aa", "partsx/a", "x/parts/a", "parts-/a", "con", "nul.txt", "a.tmp", "a.lock",
		"tmp/x", "c/" + long, long[:254] + "t", strings.Repeat("d/", 349) + "dd", "w.d/.x/..y/z",
	}
	contents := make(map[string][]byte)
	for _, key := range keys {
		e.must(drivers.CheckKey(key), "CheckKey(%q)", key)
		contents[key] = e.text()
		e.create(e.a, key, contents[key])
	}
	for _, key := range keys {
		e.holds(key, contents[key])
	}
	slices.Sort(keys)
	if got := keysOf(e.list(e.b, "", "")); !slices.Equal(got, keys) {
		e.Errorf("List() = %q, want %q", got, keys)
	}
	for _, key := range keys {
		o, err := e.b.Stat(e.Context(), key)
		e.must(err, "Stat(%q)", key)
		if e.DataOnly {
			e.want(e.a.Delete(e.Context(), key), nil, "Delete(%q)", key)
		} else {
			e.want(e.a.DeleteIf(e.Context(), key, o.Tag), nil, "DeleteIf(%q)", key)
		}
	}
	if got := e.list(e.b, "", ""); len(got) > 0 {
		e.Errorf("List after the deletion of all keys = %q, want none", keysOf(got))
	}
}
