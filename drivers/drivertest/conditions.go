package drivertest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/berthhq/berth/drivers"
)

func conditionCases() []testCase {
	return []testCase{
		{"Replace", replaceTagged},
		{"ReplaceRace", replaceRace},
		{"ReplaceCount", replaceCount},
		{"DeleteIf", deleteIf},
		{"DeleteIfRace", deleteIfRace},
		{"OlderLife", olderLife},
		{"ReplaceDeleteRace", replaceDeleteRace},
		{"CreateDeleteRace", createDeleteRace},
		{"StrangeTags", strangeTags},
	}
}

// replaceTagged replaces an object with the tags of Create, Replace, Stat and Open.
func replaceTagged(e *env) {
	ctx := e.Context()
	first, second, third := e.text(), e.bytes(50_000), e.text()
	old := e.create(e.a, "k", first)
	o, err := replace(ctx, e.b, "k", old.Tag, second)
	e.must(err, "Replace with the tag of Create")
	e.wrote(o, second)
	if o.Tag == old.Tag {
		e.Errorf("Replace with other bytes keeps the tag %q", o.Tag)
	}
	_, err = replace(ctx, e.a, "k", old.Tag, third)
	e.want(err, drivers.ErrChanged, "Replace with the earlier tag")
	e.wrote(o, second)

	stat, err := e.a.Stat(ctx, "k")
	e.must(err, "Stat")
	o, err = replace(ctx, e.a, "k", stat.Tag, third)
	e.must(err, "Replace with the tag of Stat")
	e.wrote(o, third)
	_, opened, err := read(ctx, e.b, "k", 0, -1)
	e.must(err, "Open")
	o, err = replace(ctx, e.b, "k", opened.Tag, first)
	e.must(err, "Replace with the tag of Open")
	e.wrote(o, first)
	if stat, err := e.b.Stat(ctx, "k"); err != nil || stat.Modified.Before(opened.Modified) {
		e.Errorf("Stat after Replace = Modified %v, %v, want not before %v", stat.Modified, err, opened.Modified)
	}
}

// replaceRace lets many goroutines replace one version. Exactly one must win.
func replaceRace(e *env) {
	for round := range 4 {
		key := fmt.Sprintf("r/%d", round)
		o := e.create(e.a, key, e.text())
		bodies := make([][]byte, e.Workers)
		errs := make([]error, e.Workers)
		for i := range bodies {
			bodies[i] = e.bytes(int64(1 + 3000*i))
		}
		e.race(e.Workers, func(i int, b drivers.Bucket) {
			_, errs[i] = replace(e.Context(), b, key, o.Tag, bodies[i])
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err != nil:
				e.want(err, drivers.ErrChanged, "Replace(%q), one of %d", key, e.Workers)
			case winner >= 0:
				e.Errorf("Replace(%q) succeeded for %d and for %d", key, winner, i)
			default:
				winner = i
			}
		}
		if winner < 0 {
			e.Fatalf("Replace(%q) succeeded for none of %d", key, e.Workers)
		}
		e.holds(key, bodies[winner])
	}
}

// replaceCount increments a number in an object from many goroutines at once.
// No increment may be lost.
func replaceCount(e *env) {
	const counters, each = 4, 3
	e.create(e.a, "n", []byte("0 at first"))
	errs := make([]error, counters)
	e.race(counters, func(i int, b drivers.Bucket) {
		for done := 0; done < each && errs[i] == nil; {
			data, o, err := read(e.Context(), b, "n", 0, -1)
			if err != nil {
				// Some stores abort the read of an object that is being
				// replaced.
				if outcome(err) != "error" {
					errs[i] = err
				}
				continue
			}
			digits, _, _ := bytes.Cut(data, []byte(" "))
			n, err := strconv.Atoi(string(digits))
			if err != nil {
				errs[i] = err
				break
			}
			_, err = replace(e.Context(), b, "n", o.Tag, fmt.Appendf(nil, "%d of %d.%d", n+1, i, done))
			switch {
			case err == nil:
				done++
			case !errors.Is(err, drivers.ErrChanged):
				errs[i] = err
			}
		}
	})
	e.must(errors.Join(errs...), "incrementing")
	data, _, err := read(e.Context(), e.a, "n", 0, -1)
	if want := strconv.Itoa(counters*each) + " "; err != nil || !bytes.HasPrefix(data, []byte(want)) {
		e.Errorf("object after %d increments = %q, %v, want %s first", counters*each, data, err, want)
	}
}

// deleteIf deletes objects with the tags of several versions.
func deleteIf(e *env) {
	ctx := e.Context()
	data, other := e.text(), e.text()
	o := e.create(e.a, "d/k", data)
	changed, err := replace(ctx, e.a, "d/k", o.Tag, other)
	e.must(err, "Replace")
	e.want(e.b.DeleteIf(ctx, "d/k", o.Tag), drivers.ErrChanged, "DeleteIf with the earlier tag")
	e.wrote(changed, other)
	e.want(e.b.DeleteIf(ctx, "d/k", changed.Tag), nil, "DeleteIf")
	e.absent("d/k")
	e.want(e.a.DeleteIf(ctx, "d/k", changed.Tag), nil, "second DeleteIf")
	e.want(e.a.DeleteIf(ctx, "d/k", o.Tag), nil, "DeleteIf of an absent key with an old tag")
	_, err = e.a.Replace(ctx, "d/k", changed.Tag, body(e.text()))
	e.want(err, drivers.ErrChanged, "Replace after DeleteIf")
	e.absent("d/k")
	e.want(e.a.Delete(ctx, "d/k"), nil, "Delete after DeleteIf")
	if got := e.list(e.b, "", ""); len(got) > 0 {
		e.Errorf("List after DeleteIf = %q, want none", keysOf(got))
	}
}

// deleteIfRace lets many goroutines delete one version. Every call must
// succeed.
func deleteIfRace(e *env) {
	for round := range 4 {
		key := fmt.Sprintf("r/%d", round)
		o := e.create(e.a, key, e.text())
		e.race(e.Workers, func(_ int, b drivers.Bucket) {
			e.want(b.DeleteIf(e.Context(), key, o.Tag), nil, "DeleteIf(%q), one of %d", key, e.Workers)
		})
		e.absent(key)
	}
}

// olderLife uses the tag of an object after the object was deleted and created
// again.
func olderLife(e *env) {
	ctx := e.Context()
	for _, how := range []string{"delete", "delete-if"} {
		old := e.create(e.a, how, e.text())
		for life := range 3 {
			if how == "delete" {
				e.want(e.b.Delete(ctx, how), nil, "Delete")
			} else {
				o, err := e.b.Stat(ctx, how)
				e.must(err, "Stat(%q)", how)
				e.want(e.b.DeleteIf(ctx, how, o.Tag), nil, "DeleteIf")
			}
			e.absent(how)
			data := e.text()
			o := e.create(e.a, how, data)
			if o.Tag == old.Tag {
				e.Errorf("life %d of %q has the tag of the first, %q", life, how, o.Tag)
			}
			_, err := e.a.Create(ctx, how, body(e.text()))
			e.want(err, drivers.ErrExists, "Create of a key that was created again")
			_, err = e.b.Replace(ctx, how, old.Tag, body(e.text()))
			e.want(err, drivers.ErrChanged, "Replace with the tag of an older life")
			e.want(e.b.DeleteIf(ctx, how, old.Tag), drivers.ErrChanged, "DeleteIf with the tag of an older life")
			e.wrote(o, data)
		}
	}
}

// replaceDeleteRace lets one goroutine replace and another delete the same
// version.
func replaceDeleteRace(e *env) {
	for round := range 12 {
		key := fmt.Sprintf("r/%d", round)
		o := e.create(e.a, key, e.text())
		data := e.text()
		var replaced, deleted error
		e.race(2, func(i int, b drivers.Bucket) {
			if i == round%2 {
				_, replaced = replace(e.Context(), b, key, o.Tag, data)
			} else {
				deleted = b.DeleteIf(e.Context(), key, o.Tag)
			}
		})
		if replaced == nil {
			e.want(deleted, drivers.ErrChanged, "DeleteIf(%q) of an object that was replaced at the same time", key)
			e.holds(key, data)
		} else {
			e.want(replaced, drivers.ErrChanged, "Replace(%q) of an object that was deleted at the same time", key)
			e.want(deleted, nil, "DeleteIf(%q)", key)
			e.absent(key)
		}
	}
}

// createDeleteRace lets some goroutines delete one version while others create
// the next. The object of a successful Create must stay, because the deletes
// name the earlier version.
func createDeleteRace(e *env) {
	n := max(2, e.Workers/2)
	for round := range 8 {
		key := fmt.Sprintf("r/%d", round)
		o := e.create(e.a, key, e.text())
		bodies := make([][]byte, n)
		errs := make([]error, n)
		for i := range bodies {
			bodies[i] = e.text()
		}
		e.race(2*n, func(i int, b drivers.Bucket) {
			if i%4 < 2 {
				err := b.DeleteIf(e.Context(), key, o.Tag)
				if outcome(err) != outcome(drivers.ErrChanged) {
					e.want(err, nil, "DeleteIf(%q), while the key is created again", key)
				}
				return
			}
			creator := i/4*2 + i%2
			_, errs[creator] = b.Create(e.Context(), key, body(bodies[creator]))
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err != nil:
				e.want(err, drivers.ErrExists, "Create(%q), one of %d", key, n)
			case winner >= 0:
				e.Errorf("Create(%q) succeeded for %d and for %d", key, winner, i)
			default:
				winner = i
			}
		}
		if winner >= 0 {
			e.holds(key, bodies[winner])
		} else {
			e.absent(key)
		}
	}
}

// strangeTags uses tags that the driver never returned. An empty tag must not
// mean "no condition".
func strangeTags(e *env) {
	ctx := e.Context()
	data := e.text()
	o := e.create(e.a, "k", data)
	other := e.create(e.a, "l", e.text())
	for _, tag := range []string{"", "*", "0", "-1", "\"", o.Tag + "x", "0000000000000000", other.Tag} {
		if _, err := e.a.Replace(ctx, "k", tag, body(e.text())); err == nil {
			e.Errorf("Replace with the tag %q = nil, want an error", tag)
		}
		if err := e.a.DeleteIf(ctx, "k", tag); err == nil {
			e.Errorf("DeleteIf with the tag %q = nil, want an error", tag)
		}
	}
	_, err := e.a.Replace(ctx, "k", other.Tag, body(e.text()))
	e.want(err, drivers.ErrChanged, "Replace with the tag of another object")
	e.want(e.a.DeleteIf(ctx, "k", other.Tag), drivers.ErrChanged, "DeleteIf with the tag of another object")
	e.wrote(o, data)
}
