package gcs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
)

var testUpload = drivers.Upload{Key: "data/x/" + strings.Repeat("k", 255), ID: "ABC234"}

// testParts returns n parts, with gaps between their numbers if they fit.
func testParts(n int) []drivers.Part {
	parts := make([]drivers.Part, n)
	for i := range parts {
		number := i + 1
		if n <= maxParts/2 {
			number = 2*i + 1
		}
		data := fmt.Append(nil, "part ", i)
		parts[i] = drivers.Part{
			Number: number, Size: int64(len(data)), CRC32C: drivers.UpdateCRC32C(0, data),
			Tag: attempt{fmt.Sprint("T", i), int64(i + 1)}.tag(),
		}
	}
	return parts
}

// sum returns the size and CRC-32C of all parts together.
func sum(parts []drivers.Part) (size int64, crc uint32) {
	for _, p := range parts {
		size += p.Size
		crc = drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	return size, crc
}

// fewest returns the minimum number of composes for n parts.
func fewest(n int) int { return max(1, (n-1+30)/31) }

// TestTreeSize counts the composes for every number of parts.
func TestTreeSize(t *testing.T) {
	counts := make([]int, maxParts+1)
	for n := 2; n <= maxParts; n++ {
		counts[n] = 1
		if n > maxSources {
			children, leaves := 0, 0
			for size := range split(n) {
				if size < 1 || size >= n {
					t.Fatalf("split(%d) returns the size %d", n, size)
				}
				children++
				leaves += size
				counts[n] += counts[size]
			}
			if children != maxSources || leaves != n {
				t.Fatalf("split(%d) returns %d subtrees with %d leaves, want %d with %d", n, children, leaves, maxSources, n)
			}
		}
		if counts[n] != fewest(n) {
			t.Fatalf("composes for %d parts = %d, want %d", n, counts[n], fewest(n))
		}
	}
}

// TestTree checks the shape of the trees, and that it depends only on the parts.
func TestTree(t *testing.T) {
	for _, n := range []int{1, 2, 31, 32, 33, 34, 62, 63, 64, 65, 100, 993, 1023, 1024, 1025, 1100, 1055, 5000, 9999, 10_000} {
		parts := testParts(n)
		root, err := plan(testUpload, parts)
		if err != nil {
			t.Fatal(err)
		}
		if got := root.composes(); got != fewest(n) {
			t.Errorf("composes() for %d parts = %d, want %d", n, got, fewest(n))
		}
		if size, crc := sum(parts); root.size != size || root.crc32c != crc || root.key != testUpload.Key {
			t.Errorf("root of %d parts = %s with %d bytes and CRC-32C %08x, want %d and %08x", n, root.key, root.size, root.crc32c, size, crc)
		}
		second, err := plan(testUpload, parts)
		if err != nil {
			t.Fatal(err)
		}
		keys := keysBelow(root)
		if !slices.Equal(keys, keysBelow(second)) {
			t.Errorf("two plans of %d parts differ", n)
		}
		slices.Sort(keys)
		if len(slices.Compact(keys)) != root.composes()+n {
			t.Errorf("two nodes for %d parts have the same key", n)
		}
		var leaves []string
		depth := walk(t, root, &leaves)
		want := 1
		for m := maxSources; m < n; m *= maxSources {
			want++
		}
		if depth != want {
			t.Errorf("levels for %d parts = %d, want %d", n, depth, want)
		}
		for i, p := range parts {
			if a, _ := parseAttempt(p.Tag); leaves[i] != partKey(testUpload, p.Number, a.id) {
				t.Fatalf("leaf %d of %d = %s, want part %d", i, n, leaves[i], p.Number)
			}
		}
	}
}

// keysBelow returns the keys of a node and of all nodes below it.
func keysBelow(n *node) []string {
	keys := []string{n.key}
	for _, s := range n.sources {
		keys = append(keys, keysBelow(s)...)
	}
	return keys
}

// walk returns the leaves in order, and the number of levels above them.
func walk(t *testing.T, n *node, leaves *[]string) int {
	if n.sources == nil {
		*leaves = append(*leaves, n.key)
		return 0
	}
	if len(n.sources) > maxSources || len(n.sources) == 1 && n.parent != nil {
		t.Errorf("%s has %d sources", n.key, len(n.sources))
	}
	depth := 0
	for _, s := range n.sources {
		if s.parent != n {
			t.Errorf("parent of %s is not %s", s.key, n.key)
		}
		depth = max(depth, walk(t, s, leaves))
	}
	return depth + 1
}

// TestNames checks that the longest names are short enough
// (https://cloud.google.com/storage/docs/objects#naming), and that parseUploadKey
// is the inverse of partKey and nodeKey.
func TestNames(t *testing.T) {
	const longest = 1024
	u := drivers.Upload{Key: strings.Repeat("abcdef/", 99) + "1234567", ID: strings.Repeat("A", 26)}
	if err := drivers.CheckKey(u.Key); err != nil || len(u.Key) != 700 {
		t.Fatal(err)
	}
	for _, key := range []string{partKey(u, maxParts, u.ID), nodeKey(u, 1, maxParts)} {
		if n := maxPrefix + 1 + len(key); n > longest {
			t.Errorf("%s has %d bytes with the longest prefix, want at most %d", key, n, longest)
		}
		if got, ok := parseUploadKey(key); !ok || got != u {
			t.Errorf("parseUploadKey(%q) = %+v, %v, want %+v", key, got, ok, u)
		}
	}
	for _, key := range []string{"", "parts/", "parts/x", "parts/A/1", "parts/k/a/1", "data/k/A/1", "parts//A/1", "parts/parts/k/A/1"} {
		if u, ok := parseUploadKey(key); ok {
			t.Errorf("parseUploadKey(%q) = %+v, want false", key, u)
		}
	}
}
