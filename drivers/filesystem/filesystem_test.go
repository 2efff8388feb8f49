package filesystem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
)

func openAt(t testing.TB, root string) *bucket {
	t.Helper()
	b, err := open(t.Context(), Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func body(s string) drivers.Body { return drivers.NewBody([]byte(s)) }

func create(t testing.TB, b drivers.Bucket, key, data string) drivers.Object {
	t.Helper()
	o, err := b.Create(t.Context(), key, body(data))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func start(t testing.TB, b drivers.Bucket, key string) drivers.Upload {
	t.Helper()
	u, err := b.StartUpload(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func stream(t testing.TB, b drivers.Bucket, u drivers.Upload, number int, data string) drivers.Part {
	t.Helper()
	p, err := b.StreamPart(t.Context(), u, number, strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func read(t testing.TB, b drivers.Bucket, key string) string {
	t.Helper()
	r, _, err := b.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func list(t testing.TB, b drivers.Bucket, prefix, after string) []string {
	t.Helper()
	var keys []string
	for o, err := range b.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func uploads(t testing.TB, b drivers.Bucket, prefix string) []drivers.Upload {
	t.Helper()
	var all []drivers.Upload
	for u, err := range b.Uploads(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b drivers.Upload) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

// files returns every path below the root except the lock files. Directories
// end in "/".
func files(t testing.TB, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		path, _ = filepath.Rel(root, path)
		switch {
		case err != nil || path == ".":
			return err
		case path == locksDir:
			return filepath.SkipDir
		case path == "parts" || path == stagedDir:
			return nil
		case d.IsDir():
			path += "/"
		}
		all = append(all, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestOpenMakesTheDirectory(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	b, err := Open(t.Context(), Config{Root: root, Prefix: "c/d/"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	create(t, b, "k", "x")
	if got, err := os.ReadFile(filepath.Join(root, "c", "d", "k")); err != nil || string(got) != "x" {
		t.Errorf("the file of the key is %q, %v", got, err)
	}
	info, err := os.Stat(filepath.Join(root, "c", "d", "k"))
	if err != nil || info.Mode().Perm() != fileMode {
		t.Errorf("mode = %v, %v, want %o", info.Mode(), err, fileMode)
	}
	above := openAt(t, root)
	if got, want := list(t, above, "", ""), []string{"c/d/k"}; !slices.Contains(got, want[0]) {
		t.Errorf("List above the prefix = %q, want %q in it", got, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, fileMode); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{
		{},
		{Root: filepath.Join(dir, "file")},
		{Root: filepath.Join(dir, "file", "x")},
		{Root: dir, Prefix: ".."},
		{Root: dir, Prefix: "/a"},
		{Root: dir, Prefix: "parts/x"},
		{Root: dir, Prefix: "file"},
		{Root: dir, Prefix: "link"},
		{Root: dir, Prefix: "link/below"},
	} {
		if b, err := Open(t.Context(), cfg); err == nil {
			b.Close()
			t.Errorf("Open(%+v) = nil, want an error", cfg)
		}
	}
	if got := files(t, outside); len(got) > 0 {
		t.Errorf("outside the root there is now %q", got)
	}
}

// TestNothingIsLeft checks which files every call leaves on disk.
func TestNothingIsLeft(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	ctx := t.Context()
	check := func(after string, want ...string) {
		t.Helper()
		if diff := gocmp.Diff(want, files(t, root)); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", after, diff)
		}
	}
	check("Open")
	o := create(t, b, "a/b/c", "1")
	check("Create", "a/", "a/b/", "a/b/c")
	if _, err := b.Create(ctx, "a/b/c", body("2")); !errors.Is(err, drivers.ErrExists) {
		t.Errorf("Create of a key that is taken = %v, want %v", err, drivers.ErrExists)
	}
	if _, err := b.Replace(ctx, "a/b/c", "other", body("2")); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Replace of another tag = %v, want %v", err, drivers.ErrChanged)
	}
	if _, err := b.Replace(ctx, "x/y", o.Tag, body("2")); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Replace of an absent key = %v, want %v", err, drivers.ErrChanged)
	}
	check("conflicts", "a/", "a/b/", "a/b/c")
	if o, err := b.Replace(ctx, "a/b/c", o.Tag, body("2")); err != nil {
		t.Error(err)
	} else if err := b.DeleteIf(ctx, "a/b/c", o.Tag); err != nil {
		t.Error(err)
	}
	check("DeleteIf")
	create(t, b, "a/b/c", "1")
	create(t, b, "a/d", "1")
	if err := b.Delete(ctx, "a/b/c", "a/b/x", "y/z"); err != nil {
		t.Error(err)
	}
	check("Delete", "a/", "a/d")
	if err := b.Delete(ctx, "a/d"); err != nil {
		t.Error(err)
	}
	bad := body("abc")
	bad.CRC32C++
	if _, err := b.Create(ctx, "a/b", bad); err == nil {
		t.Error("Create of a body of another checksum = nil, want an error")
	}
	check("Delete of the last")

	u := start(t, b, "data/k")
	dir := stagedName(u.ID, u.Key)
	check("StartUpload", dir+"/", dir+keyFile)
	if _, err := b.PutPart(ctx, u, 1, bad); err == nil {
		t.Error("PutPart of a body of another checksum = nil, want an error")
	}
	if _, err := b.StreamPart(ctx, u, 1, strings.NewReader("")); err == nil {
		t.Error("StreamPart of nothing = nil, want an error")
	}
	for _, cause := range []error{io.ErrUnexpectedEOF, errors.New("cut off"), drivers.ErrBusy} {
		cut := io.MultiReader(strings.NewReader(strings.Repeat("x", chunkSize+1)), iotest.ErrReader(cause))
		if _, err := b.StreamPart(ctx, u, 1, cut); !errors.Is(err, cause) {
			t.Errorf("StreamPart of a body that fails = %v, want %v", err, cause)
		}
	}
	check("failed parts", dir+"/", dir+keyFile)
	one, two := stream(t, b, u, 1, "ab"), stream(t, b, u, 2, "c")
	if _, err := b.Complete(ctx, u, []drivers.Part{one, two}, 1); err == nil {
		t.Error("Complete with another checksum = nil, want an error")
	}
	if _, err := b.Complete(ctx, u, []drivers.Part{one, two}, body("abc").CRC32C); err != nil {
		t.Error(err)
	}
	check("Complete", "data/", "data/k")
	if got := read(t, b, "data/k"); got != "abc" {
		t.Errorf("completed object = %q, want %q", got, "abc")
	}
	u = start(t, b, "data/l")
	stream(t, b, u, 1, "ab")
	for range 2 {
		if err := b.Abort(ctx, u); err != nil {
			t.Error(err)
		}
	}
	check("Abort", "data/", "data/k")
}

// TestStreamPartContext checks that StreamPart stops between chunks once its
// context ends.
func TestStreamPartContext(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	u := start(t, b, "data/k")
	ctx, cancel := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if _, err := b.StreamPart(ctx, u, 1, endless); !errors.Is(err, context.Canceled) {
		t.Errorf("StreamPart = %v, want %v", err, context.Canceled)
	}
	dir := stagedName(u.ID, u.Key)
	if diff := gocmp.Diff([]string{dir + "/", dir + keyFile}, files(t, root)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// chunkSize is how many bytes io.Copy reads at a time from a body that does not
// implement io.WriterTo.
const chunkSize = 32 << 10

// TestStreamPartChunks checks that a large part is stored with the right
// checksum for every size of the reads.
func TestStreamPartChunks(t *testing.T) {
	b := openAt(t, t.TempDir())
	for _, n := range []int{1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 7, writeBackStep, writeBackStep + chunkSize} {
		data := strings.Repeat("0123456789abcdefg", n/17+1)[:n]
		for _, r := range []io.Reader{strings.NewReader(data), iotest.HalfReader(strings.NewReader(data)), iotest.DataErrReader(strings.NewReader(data))} {
			u := start(t, b, fmt.Sprintf("data/%d", n))
			p, err := b.StreamPart(t.Context(), u, 1, r)
			if err != nil || p.Size != int64(n) || p.CRC32C != body(data).CRC32C {
				t.Fatalf("StreamPart of %d bytes = %+v, %v, want crc %08x", n, p, err, body(data).CRC32C)
			}
			if _, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C); err != nil {
				t.Fatal(err)
			}
			if got := read(t, b, u.Key); got != data {
				t.Errorf("%d bytes read back differ", n)
			}
			if err := b.Delete(t.Context(), u.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestOpenGivesTheFile checks that Open returns the file itself, because
// net/http lets the kernel send the bytes only then.
func TestOpenGivesTheFile(t *testing.T) {
	b := openAt(t, t.TempDir())
	for _, key := range []string{"data/k", "meta/k"} {
		create(t, b, key, "0123456789")
		r, _, err := b.Open(t.Context(), key, 4, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := r.(*os.File); !ok {
			t.Errorf("Open(%q, 4, -1) returns a %T, want an *os.File", key, r)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "456789" {
			t.Errorf("Open(%q, 4, -1) reads %q, %v", key, got, err)
		}
		r.Close()

		r, _, err = b.Open(t.Context(), key, 4, 3)
		if err != nil {
			t.Fatal(err)
		}
		section, ok := r.(interface {
			Outer() (r io.ReaderAt, off, n int64)
		})
		if !ok {
			t.Fatalf("Open(%q, 4, 3) returns a %T, want a section", key, r)
		}
		f, off, n := section.Outer()
		if _, ok := f.(*os.File); !ok || off != 4 || n != 3 {
			t.Errorf("Open(%q, 4, 3) returns %d bytes from %d of a %T, want 3 from 4 of an *os.File", key, n, off, f)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "456" {
			t.Errorf("Open(%q, 4, 3) reads %q, %v", key, got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close its file reads with %v, want os.ErrClosed", err)
		}
	}
}

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
			t.Errorf("tags of %s and %s: %q and %q, want equal: %v", test.a, test.b, x.Tag, y.Tag, test.same)
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

// TestCompleteKeepsTheTime checks that Modified of an object of one part is the
// time of the part, and that a second Complete changes neither it nor the tag.
func TestCompleteKeepsTheTime(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	u := start(t, b, "data/k")
	p := stream(t, b, u, 1, "abc")
	past := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(root, partFile(stagedName(u.ID, u.Key), p)), past, past); err != nil {
		t.Fatal(err)
	}
	first, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C)
	if err != nil || !first.Modified.Equal(past) {
		t.Fatalf("Complete = %+v, %v, want it dated %v", first, err, past)
	}
	again, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C)
	if diff := gocmp.Diff(first, again); err != nil || diff != "" {
		t.Errorf("Complete again = %v (-first +again):\n%s", err, diff)
	}
}

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
	// Files that cannot be keys belong to other programs.
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
	slices.Sort(keys)

	starts := map[string]bool{"": true, "zz": true, "parts/": true, "parts/staged/": true, "../": true, "/": true, "./": true, "a//": true, "a//x": true, "no/such/": true, "b/": true, "b/c": true}
	for _, key := range keys {
		for n := range len(key) + 1 {
			starts[key[:n]] = true
		}
		starts[key+"0"], starts[key+"!"] = true, true
	}
	for prefix := range starts {
		for after := range starts {
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
	for o, err := range b.List(t.Context(), "", "") {
		if err != nil || o.Key != keys[0] {
			t.Errorf("List starts with %v, %v, want %s", o, err, keys[0])
		}
		break // the walk ends, too
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
			t.Errorf("prefix %q after %q meets %q = %v, want %v", test.prefix, test.after, test.key, got, test.want)
		}
	}
}

func TestConfinement(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), fileMode); err != nil {
		t.Fatal(err)
	}
	b := openAt(t, root)
	ctx := t.Context()
	for name, target := range map[string]string{
		"absolute": outside,
		"relative": filepath.Join("..", filepath.Base(outside)),
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
		key := name + "/secret"
		u := start(t, b, name+"/new")
		p := stream(t, b, u, 1, "x")
		_, replaceErr := b.Replace(ctx, key, "", body("x"))
		_, createErr := b.Create(ctx, name+"/new", body("x"))
		_, statErr := b.Stat(ctx, key)
		_, completeErr := b.Complete(ctx, u, []drivers.Part{p}, p.CRC32C)
		var listErr error
		for _, err := range b.List(ctx, name+"/", "") {
			listErr = cmp.Or(listErr, err)
		}
		for op, err := range map[string]error{
			"Create": createErr, "Replace": replaceErr, "Stat": statErr, "Complete": completeErr, "List": listErr,
			"Delete": b.Delete(ctx, key), "DeleteIf": b.DeleteIf(ctx, key, ""),
		} {
			if err == nil || errors.Is(err, drivers.ErrNotFound) || errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrChanged) {
				t.Errorf("%s through the %s link = %v, want an error that makes no claim about the key", op, name, err)
			}
		}
	}
	if diff := gocmp.Diff([]string{"secret"}, files(t, outside)); diff != "" {
		t.Errorf("outside the root (-want +got):\n%s", diff)
	}
	if got := list(t, b, "", ""); len(got) > 0 {
		t.Errorf("List = %q, want nothing", got)
	}
	// IDs are read from the bucket's records. No ID may lead to another path.
	create(t, b, "meta/kk", "x")
	cut := "../../" + strings.Repeat("./", 121) + "meta/kk" // 255 bytes, so that the key after it is truncated
	for _, id := range []string{"", ".", "..", "../../meta", cut, strings.Repeat("A", 25) + "/", strings.Repeat("a", 26)} {
		u := drivers.Upload{Key: "k", ID: id}
		if err := b.Abort(ctx, u); err != nil {
			t.Errorf("Abort of %q = %v", id, err)
		}
		if _, err := b.StreamPart(ctx, u, 1, strings.NewReader("x")); !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("StreamPart into %q = %v, want %v", id, err, drivers.ErrNotFound)
		}
		p := drivers.Part{Number: 1, Size: 1, Tag: "t"}
		if _, err := b.Complete(ctx, u, []drivers.Part{p}, 0); !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("Complete of %q = %v, want %v", id, err, drivers.ErrNotFound)
		}
	}
	if got := read(t, b, "meta/kk"); got != "x" {
		t.Errorf("meta/kk = %q", got)
	}
	u := start(t, b, "data/k")
	p := stream(t, b, u, 1, "abc")
	for _, tag := range []string{"", "-", "key", "../key", p.Tag + "0", strings.Replace(p.Tag, "-", "/", 1), partTag("../key", p.CRC32C)} {
		forged := p
		forged.Tag = tag
		if _, err := b.Complete(ctx, u, []drivers.Part{forged}, p.CRC32C); !errors.Is(err, drivers.ErrChanged) {
			t.Errorf("Complete of a part with tag %q = %v, want %v", tag, err, drivers.ErrChanged)
		}
	}
}

// TestRootTakenAway checks that a bucket that was removed does not return
// ErrNotFound, which is a claim about a key.
func TestRootTakenAway(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	b := openAt(t, root)
	u := start(t, b, "data/k")
	p := stream(t, b, u, 1, "x")
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, statErr := b.Stat(ctx, "k")
	_, createErr := b.Create(ctx, "k", body("x"))
	_, replaceErr := b.Replace(ctx, "k", "", body("x"))
	_, partErr := b.StreamPart(ctx, u, 1, strings.NewReader("x"))
	_, completeErr := b.Complete(ctx, u, []drivers.Part{p}, p.CRC32C)
	var listErr error
	for _, err := range b.List(ctx, "", "") {
		listErr = err
	}
	for op, err := range map[string]error{
		"Stat": statErr, "Create": createErr, "Replace": replaceErr, "StreamPart": partErr, "Complete": completeErr, "List": listErr,
		"Delete": b.Delete(ctx, "k"), "DeleteIf": b.DeleteIf(ctx, "k", ""),
	} {
		if err == nil || errors.Is(err, drivers.ErrNotFound) || errors.Is(err, drivers.ErrChanged) {
			t.Errorf("%s = %v, want an error that makes no claim about the key", op, err)
		}
	}
}

// TestLeftovers checks what a process leaves that is killed at any point of a
// write.
func TestLeftovers(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	long := strings.TrimSuffix(strings.Repeat(strings.Repeat("k", 99)+"/", 7), "/")
	whole := start(t, b, long) // a key that is too long for a file name
	stream(t, b, whole, 1, "x")
	if _, _, err := b.stage(t.Context(), "blobs/x/record", body("x")); err != nil {
		t.Fatal(err)
	}
	if err := b.root.Mkdir(stagedName(strings.Repeat("A", 26), "data/early"), dirMode); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, stagedDir, "foreign"), nil, fileMode); err != nil {
		t.Fatal(err)
	}
	got := map[string]drivers.Upload{}
	for _, u := range uploads(t, b, "") {
		got[u.Key] = u
	}
	want := []string{"blobs/x/record", "data/early", long}
	if diff := gocmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("Uploads (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(whole, got[long]); diff != "" {
		t.Errorf("Uploads and StartUpload differ (-start +uploads):\n%s", diff)
	}
	for key, u := range got {
		if time.Since(u.Started).Abs() > time.Hour {
			t.Errorf("%s started %v", key, u.Started)
		}
		if err := b.Abort(t.Context(), u); err != nil {
			t.Errorf("Abort of %s = %v", key, err)
		}
	}
	if got := uploads(t, b, "data/"); len(got) > 0 {
		t.Errorf("Uploads after Abort = %v, want none", got)
	}
	if diff := gocmp.Diff([]string{stagedDir + "/foreign"}, files(t, root)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if got := list(t, b, "", ""); len(got) > 0 {
		t.Errorf("List = %q, want nothing", got)
	}
}

// TestLinkedBefore completes an upload that was already linked, as when
// Complete was killed after its link or NFS lost the response to the link.
func TestLinkedBefore(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	if err := b.root.Mkdir("data", dirMode); err != nil {
		t.Fatal(err)
	}
	u := start(t, b, "data/k")
	p := stream(t, b, u, 1, "abc")
	if err := b.root.Link(partFile(stagedName(u.ID, u.Key), p), u.Key); err != nil {
		t.Fatal(err)
	}
	o, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C)
	if err != nil || o.Size != 3 || len(uploads(t, b, "")) > 0 {
		t.Errorf("Complete = %+v, %v, then %v, want no upload left", o, err, uploads(t, b, ""))
	}

	staged, _, err := b.stage(t.Context(), "data/l", body("x"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.publish(t.Context(), staged, "data/l"); err != nil {
			t.Errorf("publish = %v, want nil: the link is its own", err)
		}
	}
	if err := b.publish(t.Context(), staged, "data/k"); !errors.Is(err, drivers.ErrExists) {
		t.Errorf("publish onto another file = %v, want %v", err, drivers.ErrExists)
	}
}

func TestPartsGone(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	for _, n := range []int{1, 2} {
		u := start(t, b, "data/k")
		parts, sum := []drivers.Part{}, uint32(0)
		for i := range n {
			p := stream(t, b, u, i+1, "abc")
			parts, sum = append(parts, p), drivers.CombineCRC32C(sum, p.CRC32C, p.Size)
		}
		last := filepath.Join(root, partFile(stagedName(u.ID, u.Key), parts[n-1]))
		if err := os.Truncate(last, 2); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Complete(t.Context(), u, parts, sum); !errors.Is(err, drivers.ErrChanged) {
			t.Errorf("Complete with a short file = %v, want %v", err, drivers.ErrChanged)
		}
		if err := os.Remove(last); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Complete(t.Context(), u, parts, sum); !errors.Is(err, drivers.ErrChanged) {
			t.Errorf("Complete without a part's file = %v, want %v", err, drivers.ErrChanged)
		}
		if err := b.Abort(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Complete(t.Context(), u, parts, sum); !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("Complete after Abort = %v, want %v", err, drivers.ErrNotFound)
		}
		if _, err := b.StreamPart(t.Context(), u, 1, strings.NewReader("x")); !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("StreamPart after Abort = %v, want %v", err, drivers.ErrNotFound)
		}
	}
	if got := files(t, root); len(got) > 0 {
		t.Errorf("left: %q", got)
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
		t.Errorf("a = %q", got)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		errno      syscall.Errno
		busy, full bool
	}{
		{syscall.EMFILE, true, false}, {syscall.ENFILE, true, false}, {syscall.ENOSPC, false, true}, {syscall.EDQUOT, false, true},
		{syscall.EIO, false, false},
	} {
		err := failed("create", "k", &os.PathError{Op: "openat", Path: "k", Err: test.errno})
		if !errors.Is(err, test.errno) || errors.Is(err, drivers.ErrBusy) != test.busy || errors.Is(err, drivers.ErrFull) != test.full {
			t.Errorf("%v became %v, want ErrBusy: %v, ErrFull: %v", test.errno, err, test.busy, test.full)
		}
		for _, sentinel := range []error{drivers.ErrNotFound, drivers.ErrExists, drivers.ErrChanged, drivers.ErrRange} {
			if errors.Is(err, sentinel) {
				t.Errorf("%v became %v", test.errno, sentinel)
			}
		}
	}
}
