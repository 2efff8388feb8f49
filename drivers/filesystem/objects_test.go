package filesystem

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
)

// TestOpenReturnsTheFile checks that Open returns a FileReader, because net/http
// lets the kernel send only the bytes of files.
func TestOpenReturnsTheFile(t *testing.T) {
	b := openAt(t, t.TempDir())
	create(t, b, "data/k", "0123456789")
	for _, test := range []struct {
		n    int64
		want string
	}{{-1, "456789"}, {100, "456789"}, {3, "456"}} {
		r, _, err := b.Open(t.Context(), "data/k", 4, test.n)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != test.want {
			t.Errorf("read of Open(4, %d) = %q, %v, want %q", test.n, got, err, test.want)
		}
		file, ok := r.(drivers.FileReader)
		if !ok {
			t.Fatalf("Open(4, %d) returns a %T, want a drivers.FileReader", test.n, r)
		}
		whole := make([]byte, 10)
		if n, err := file.File().ReadAt(whole, 0); err != nil || string(whole) != "0123456789" {
			t.Errorf("ReadAt of the file of Open(4, %d) = %q, %v, want the whole object", test.n, whole[:n], err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := file.File().ReadAt(whole, 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("ReadAt after Close = %v, want %v", err, os.ErrClosed)
		}
	}
}

// TestTags stores equal bytes under two keys. Only small objects outside
// "data/" have a tag that depends on the bytes alone.
func TestTags(t *testing.T) {
	b := openAt(t, t.TempDir())
	large := strings.Repeat("x", smallBody+1)
	for _, test := range []struct {
		a, b string // two keys for equal bytes
		data string
		same bool
	}{
		{"meta/a", "meta/b", "x", true},
		{"meta/c", "meta/d", large[:smallBody], true},
		{"meta/e", "meta/f", large, false},
		{"data/a", "data/b", "x", false},
	} {
		x, y := create(t, b, test.a, test.data), create(t, b, test.b, test.data)
		if (x.Tag == y.Tag) != test.same {
			t.Errorf("tags of %s and %s = %q and %q, want equal: %v", test.a, test.b, x.Tag, y.Tag, test.same)
		}
		stat, err := b.Stat(t.Context(), test.a)
		if diff := gocmp.Diff(x, stat); err != nil || diff != "" {
			t.Errorf("Stat(%q) and Create differ (-create +stat): %v\n%s", test.a, err, diff)
		}
	}
	x := create(t, b, "meta/large", large)
	y, err := b.Replace(t.Context(), "meta/large", x.Tag, body(large))
	if err != nil || y.Tag == x.Tag {
		t.Errorf("Replace by equal bytes = %+v, %v, want another tag than %s", y, err, x.Tag)
	}
	if _, err := b.Replace(t.Context(), "meta/large", x.Tag, body(large)); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Replace by the old tag = %v, want %v", err, drivers.ErrChanged)
	}
}

// TestDeleteBelowAnObject checks that deleting a key below an object, which no
// caller does, changes nothing.
func TestDeleteBelowAnObject(t *testing.T) {
	b := openAt(t, t.TempDir())
	create(t, b, "a", "x")
	if err := b.Delete(t.Context(), "a/b", "a/b/c"); err != nil {
		t.Error(err)
	}
	if err := b.DeleteIf(t.Context(), "a/b", "t"); err != nil {
		t.Error(err)
	}
	if _, err := b.Stat(t.Context(), "a/b"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat = %v, want %v", err, drivers.ErrNotFound)
	}
	if got := read(t, b, "a"); got != "x" {
		t.Errorf("object a = %q, want \"x\"", got)
	}
}
