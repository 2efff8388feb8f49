package memory

import (
	"iter"
	"slices"
	"strings"
)

// index keeps keys in order. It sorts when the order is needed, not for every
// added key. A deleted key stays in the index until sort drops it, which is
// when keys were added or many were deleted. The caller has to skip keys that
// were deleted.
type index struct {
	sorted []string
	fresh  []string // added since the last sort, in any order, with duplicates
}

func (x *index) add(key string) { x.fresh = append(x.fresh, key) }

// sort adds the fresh keys in order, and drops those without an object.
func (x *index) sort(objects map[string]object) {
	if len(x.fresh) == 0 && len(x.sorted) <= 2*len(objects)+pageSize {
		return
	}
	slices.Sort(x.fresh)
	merged := make([]string, 0, len(objects))
	take := func(key string) {
		if _, ok := objects[key]; ok && (len(merged) == 0 || merged[len(merged)-1] != key) {
			merged = append(merged, key)
		}
	}
	fresh := x.fresh
	for _, key := range x.sorted {
		for len(fresh) > 0 && fresh[0] <= key {
			take(fresh[0])
			fresh = fresh[1:]
		}
		take(key)
	}
	for _, key := range fresh {
		take(key)
	}
	x.sorted, x.fresh = merged, nil
}

// walk returns the keys with this prefix that are greater than after, in order.
func (x *index) walk(prefix, after string) iter.Seq[string] {
	return func(yield func(string) bool) {
		from, found := slices.BinarySearch(x.sorted, max(prefix, after))
		if found && after >= prefix {
			from++
		}
		for _, key := range x.sorted[from:] {
			if !strings.HasPrefix(key, prefix) || !yield(key) {
				return
			}
		}
	}
}
