package drivertest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
)

func listCases() []testCase {
	return []testCase{
		{"List", list},
		{"ListOrder", listOrder},
		{"ListLarge", listLarge},
		{"ListWhileChanging", listWhileChanging},
	}
}

// list lists an empty bucket and a bucket with one key.
func list(e *env) {
	for _, prefix := range []string{"", "a", "a/"} {
		if got := e.list(e.a, prefix, ""); len(got) > 0 {
			e.Errorf("List(%q) of an empty bucket = %q", prefix, keysOf(got))
		}
	}
	data := e.text()
	e.create(e.a, "a/b", data)
	stored := e.holds("a/b", data)
	for _, prefix := range []string{"", "a", "a/", "a/b"} {
		got := e.list(e.b, prefix, "")
		if len(got) != 1 {
			e.Errorf("List(%q) = %q, want the only key", prefix, keysOf(got))
			continue
		}
		o := got[0]
		// The listing may report the time more precisely than a header does.
		if o.Key != "a/b" || o.Size != stored.Size || o.Tag != "" || !o.Modified.Truncate(time.Second).Equal(stored.Modified.Truncate(time.Second)) {
			e.Errorf("List(%q) returns %+v, want %+v without a tag", prefix, o, stored)
		}
	}
	for _, prefix := range []string{"b", "a/b/", "a/bb", "a//", "A", "/"} {
		if got := e.list(e.b, prefix, ""); len(got) > 0 {
			e.Errorf("List(%q) = %q, want nothing", prefix, keysOf(got))
		}
	}
}

// listOrder compares with byte order, which is neither a locale's order nor
// that of directories: "a-b" and "a.b" come before "a/x", and "a0" after it.
func listOrder(e *env) {
	keys := []string{
		"a-b", "a.b", "a/x", "a/x-", "a/y/z", "a0", "aB", "ab", "B", "b/1", "b/10", "b/2", "b/c/d/e", "b/c-d", "b/c.d/e", "b/c0",
		"_", "z", "!", "+", ":", "0", "a!b/c", "a+/d",
		"c/1", "c/1-1", "c/1-1-1", "c/1-1-1-1", "c/1-1-1-1-1", "c/1-1-1-1-1-1", "c/1-1-1-1-1-1-1", "c/1-1-1-1-1-1-1-1", "c/1.1", "c/11",
	}
	e.each(len(keys), func(i int, b drivers.Bucket) error {
		_, err := b.Create(e.Context(), keys[i], body(e.text()))
		return err
	})
	slices.Sort(keys)
	prefixes := []string{"", "a", "a/", "a/x", "b", "b/", "b/1", "b/c", "b/c/", "c/", "a0", "z", "zz", "!"}
	afters := append(slices.Clone(keys), "", "a/", "a/z", "a0/", "b/", "b/1-", "b/11", "zz", "A", "-", "b/c/d", "b/c/d/", "a/y")
	for i, prefix := range prefixes {
		for j, after := range afters {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			n := (i + j) % 4 // the hint changes nothing
			if got := keysOf(e.listWanting(e.b, prefix, after, n)); !slices.Equal(got, want) {
				e.Errorf("List(%q, %q, %d) = %q, want %q", prefix, after, n, got, want)
				break
			}
		}
	}
}

// listLarge creates groups of keys that end just before, at and just after the
// end of a page, and then keys until there are Keys of them.
func listLarge(e *env) {
	ctx := e.Context()
	var keys []string
	for _, group := range []int{1, pageSize - 1, pageSize, pageSize + 1, 2 * pageSize, e.Keys} {
		for i := range group {
			if len(keys) == e.Keys {
				break
			}
			keys = append(keys, fmt.Sprintf("g%05d/%02x/%d", group, i%8, i))
		}
	}
	e.each(len(keys), func(i int, b drivers.Bucket) error {
		_, err := b.Create(ctx, keys[i], body(fmt.Append(nil, keys[i])))
		return err
	})
	slices.Sort(keys)
	check := func(prefix, after string, n int) {
		from, _ := slices.BinarySearch(keys, prefix)
		to, _ := slices.BinarySearch(keys, prefix+"~")
		want := keys[from:to]
		if next, found := slices.BinarySearch(want, after); found {
			want = want[next+1:]
		} else {
			want = want[next:]
		}
		got := keysOf(e.listWanting(e.b, prefix, after, n))
		if i := firstDifference(got, want); i >= 0 {
			e.Errorf("List(%q, %q, %d) has %d keys, want %d; the first difference is at index %d", prefix, after, n, len(got), len(want), i)
		}
	}
	check("", "", 0)
	check("", "", pageSize+10)
	for _, group := range []int{1, pageSize - 1, pageSize, pageSize + 1, 2 * pageSize} {
		prefix := fmt.Sprintf("g%05d/", group)
		check(prefix, "", 0)
		check(prefix, prefix+"04/", 10)
	}
	for _, i := range []int{0, len(keys) / 2, len(keys) - 1} {
		check("", keys[i], 0)
	}
	n := 0
	for _, err := range e.b.List(ctx, "", "", 0) {
		e.must(err, "List")
		if n++; n == pageSize+1 {
			break
		}
	}
	e.want(e.a.Delete(ctx, keys...), nil, "Delete of %d keys", len(keys))
	if got := e.list(e.b, "", ""); len(got) > 0 {
		e.Errorf("List after Delete of %d keys returns %d, want none", len(keys), len(got))
	}
}

// firstDifference returns the index of the first difference, or -1.
func firstDifference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) == len(b) {
		return -1
	}
	return min(len(a), len(b))
}

// listWhileChanging deletes listed keys and creates new ones during the
// listing, as the collector does, and deletes keys that are not listed yet, as
// other clients do. Keys that stay must be listed once and in order.
func listWhileChanging(e *env) {
	ctx := e.Context()
	n := min(e.Keys, 2*pageSize+100)
	e.each(n, func(i int, b drivers.Bucket) error {
		_, err := b.Create(ctx, fmt.Sprintf("k/%05d", i), body(e.text()))
		return err
	})
	var got []string
	for o, err := range e.a.List(ctx, "k/", "", 0) {
		e.must(err, "List")
		got = append(got, o.Key)
		var i int
		if _, err := fmt.Sscanf(o.Key, "k/%05d", &i); err != nil {
			e.Fatal(err)
		}
		if i%100 == 0 && !strings.HasSuffix(o.Key, "-new") {
			e.want(e.a.Delete(ctx, o.Key), nil, "Delete(%q) during its listing", o.Key)
			e.create(e.b, o.Key+"-new", e.text())
			e.want(e.b.Delete(ctx, fmt.Sprintf("k/%05d", n-1-i)), nil, "Delete of a key that is not listed yet")
		}
	}
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		e.Errorf("List returns %d keys that do not ascend", len(got))
	}
	for i := range n {
		key := fmt.Sprintf("k/%05d", i)
		if _, found := slices.BinarySearch(got, key); !found && i%100 != 0 && (n-1-i)%100 != 0 {
			e.Errorf("List does not return %q, which existed all the time", key)
		}
	}
}
