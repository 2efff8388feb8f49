package filesystem

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// TestListOrder compares List with sorting, for all kinds of keys and prefixes
// that affect the order.
func TestListOrder(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	keys := []string{"a-b", "a-b.c", "a.d/x", "a/x", "a/x-y", "a/y/1", "a/y/2", "a0", "ab", "a!/q", "a+", "aa/b/c", "b", "A", "partsx/y", "part"}
	for _, key := range keys {
		create(t, b, key, "x")
	}
	start(t, b, "a/upload")
	addForeignFiles(t, root)
	slices.Sort(keys)

	bounds := map[string]bool{}
	for _, other := range []string{"", "zz", "parts/", "parts/staged/", "../", "/", "./", "a//", "a//x", "no/such/", "b/", "b/c"} {
		bounds[other] = true
	}
	for _, key := range keys {
		for n := range len(key) + 1 {
			bounds[key[:n]] = true
		}
		bounds[key+"0"], bounds[key+"!"] = true, true
	}
	for prefix := range bounds {
		for after := range bounds {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			if diff := gocmp.Diff(want, list(t, b, prefix, after)); diff != "" {
				t.Errorf("List(%q, %q) (-want +got):\n%s", prefix, after, diff)
			}
		}
	}
	for o, err := range b.List(t.Context(), "", "", 0) {
		if err != nil || o.Key != keys[0] {
			t.Errorf("first item of List = %+v, %v, want %s", o, err, keys[0])
		}
		break // which ends the walk too
	}
}

// addForeignFiles creates files and directories that no driver creates. List
// must skip them.
func addForeignFiles(t *testing.T, root string) {
	t.Helper()
	// Their names cannot be keys.
	for _, name := range []string{"white space", "a/y/ü", "a/.hidden~"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("x"), fileMode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "a", "empty"), dirMode); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b", filepath.Join(root, "bb")); err != nil {
		t.Fatal(err)
	}
}

// TestListPrunes checks that List reads only directories that can hold matching
// keys.
func TestListPrunes(t *testing.T) {
	for _, test := range []struct {
		prefix, after, key string
		want               bool
	}{
		{"", "", "a/", true},
		{"a/b", "", "a/", true},
		{"a/b", "", "a/bc/", true},
		{"a/b", "", "a/c/", false},
		{"a/b", "", "b/", false},
		{"", "a/x", "a/", true},
		{"", "a0", "a/", false},
		{"", "a-", "a/", true},
		{"", "a/m/z", "a/k/", false},
		{"", "a/m/z", "a/m/", true},
		{"", "a/m/z", "a/n/", true},
		{"a", "a", "a", false},
		{"a", "", "a", true},
		{"b", "", "a", false},
	} {
		if got := (span{test.prefix, test.after}).meets(test.key); got != test.want {
			t.Errorf("span{%q, %q}.meets(%q) = %v, want %v", test.prefix, test.after, test.key, got, test.want)
		}
	}
}

// TestListPages creates keys during a listing. Those after the names that the listing
// holds are listed, because it reads the directory again.
func TestListPages(t *testing.T) {
	b := openAt(t, t.TempDir())
	keys := []string{"k/a", "k/b", "k/c/1", "k/c/2", "k/c/3", "k/d"}
	for _, key := range keys {
		create(t, b, key, "x")
	}
	for want, added := range map[int][]string{0: nil, 1: {"k/a1", "k/b1"}, 2: {"k/b1"}, 6: nil} {
		var got []string
		for o, err := range b.List(t.Context(), "k/", "", want) {
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 {
				create(t, b, "k/a1", "x")
				create(t, b, "k/b1", "x")
			}
			got = append(got, o.Key)
		}
		if err := b.Delete(t.Context(), "k/a1", "k/b1"); err != nil {
			t.Fatal(err)
		}
		expected := append(slices.Clone(keys), added...)
		slices.Sort(expected)
		if diff := gocmp.Diff(expected, got); diff != "" {
			t.Errorf("List of a caller that wants %d (-want +got):\n%s", want, diff)
		}
	}
}

// TestReadNames checks that a directory's names are held for one page only.
func TestReadNames(t *testing.T) {
	dir := t.TempDir()
	for i := range 5000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d", i*7919%5000)), nil, fileMode); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for after, first := range map[string]int{"": 0, "0999": 1000, "4990": 4991, "4999": 5000} {
		names, err := readNames(root, "", span{}, after, 100)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for i := first; i < min(first+100, 5000); i++ {
			want = append(want, fmt.Sprintf("%04d", i))
		}
		if !slices.Equal(names, want) || cap(names) > 4*1124 {
			t.Errorf("readNames after %q = %d names of %d, %q…, want %d", after, len(names), cap(names), names[:min(len(names), 2)], len(want))
		}
	}
}
