package filesystem

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
)

// wantFiles fails the test unless exactly these paths are below the root.
func wantFiles(t *testing.T, root, after string, want ...string) {
	t.Helper()
	if diff := gocmp.Diff(want, files(t, root)); diff != "" {
		t.Errorf("files after %s (-want +got):\n%s", after, diff)
	}
}

// corrupt returns a body with a wrong checksum.
func corrupt(s string) drivers.Body {
	b := body(s)
	b.CRC32C++
	return b
}

// TestFilesOfObjects checks which files each call leaves on disk.
func TestFilesOfObjects(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	ctx := t.Context()
	wantFiles(t, root, "Open")
	o := create(t, b, "a/b/c", "1")
	wantFiles(t, root, "Create", "a/", "a/b/", "a/b/c")
	if _, err := b.Create(ctx, "a/b/c", body("2")); !errors.Is(err, drivers.ErrExists) {
		t.Errorf("Create of a taken key = %v, want %v", err, drivers.ErrExists)
	}
	if _, err := b.Replace(ctx, "a/b/c", "other", body("2")); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Replace of another tag = %v, want %v", err, drivers.ErrChanged)
	}
	if _, err := b.Replace(ctx, "x/y", o.Tag, body("2")); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Replace of an absent key = %v, want %v", err, drivers.ErrChanged)
	}
	wantFiles(t, root, "conflicts", "a/", "a/b/", "a/b/c")
	o, err := b.Replace(ctx, "a/b/c", o.Tag, body("2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteIf(ctx, "a/b/c", o.Tag); err != nil {
		t.Error(err)
	}
	wantFiles(t, root, "DeleteIf")
	create(t, b, "a/b/c", "1")
	create(t, b, "a/d", "1")
	if err := b.Delete(ctx, "a/b/c", "a/b/x", "y/z"); err != nil {
		t.Error(err)
	}
	wantFiles(t, root, "Delete", "a/", "a/d")
	if err := b.Delete(ctx, "a/d"); err != nil {
		t.Error(err)
	}
	if _, err := b.Create(ctx, "a/b", corrupt("abc")); err == nil {
		t.Error("Create of a body with a wrong checksum = nil, want an error")
	}
	wantFiles(t, root, "Delete of the last object")
}

// TestFilesOfUploads is TestFilesOfObjects for uploads.
func TestFilesOfUploads(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	ctx := t.Context()
	u := start(t, b, "data/k")
	dir := stagedName(u.ID, u.Key)
	wantFiles(t, root, "StartUpload", dir+"/", dir+keyFile)
	if _, err := b.PutPart(ctx, u, 1, corrupt("abc")); err == nil {
		t.Error("PutPart of a body with a wrong checksum = nil, want an error")
	}
	if _, err := b.StreamPart(ctx, u, 1, strings.NewReader("")); err == nil {
		t.Error("StreamPart of an empty body = nil, want an error")
	}
	for _, cause := range []error{io.ErrUnexpectedEOF, errors.New("cut off"), drivers.ErrBusy} {
		cut := io.MultiReader(strings.NewReader(strings.Repeat("x", chunkSize+1)), iotest.ErrReader(cause))
		if _, err := b.StreamPart(ctx, u, 1, cut); !errors.Is(err, cause) {
			t.Errorf("StreamPart of a body that fails = %v, want %v", err, cause)
		}
	}
	wantFiles(t, root, "failed parts", dir+"/", dir+keyFile)
	one, two := stream(t, b, u, 1, "ab"), stream(t, b, u, 2, "c")
	if _, err := b.Complete(ctx, u, []drivers.Part{one, two}, 1); err == nil {
		t.Error("Complete with a wrong checksum = nil, want an error")
	}
	if _, err := b.Complete(ctx, u, []drivers.Part{one, two}, body("abc").CRC32C); err != nil {
		t.Error(err)
	}
	wantFiles(t, root, "Complete", "data/", "data/k")
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
	wantFiles(t, root, "Abort", "data/", "data/k")
}

// TestLeftovers checks what Uploads returns, and Abort deletes, after processes
// were killed at different points of a write.
func TestLeftovers(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	long := strings.TrimSuffix(strings.Repeat(strings.Repeat("k", 99)+"/", 7), "/")
	whole := start(t, b, long) // a key that is too long for a file name
	stream(t, b, whole, 1, "x")
	if _, _, err := b.stage(t.Context(), "blobs/x/record", body("x")); err != nil {
		t.Fatal(err)
	}
	if err := b.objectStore.disk.root.Mkdir(stagedName(strings.Repeat("A", 26), "data/early"), dirMode); err != nil {
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
			t.Errorf("Started of %s = %v, want now", key, u.Started)
		}
		if err := b.Abort(t.Context(), u); err != nil {
			t.Errorf("Abort of %s = %v", key, err)
		}
	}
	if got := uploads(t, b, "data/"); len(got) > 0 {
		t.Errorf("Uploads after Abort = %v, want none", got)
	}
	wantFiles(t, root, "Abort", stagedDir+"/foreign")
	if got := list(t, b, "", ""); len(got) > 0 {
		t.Errorf("List = %q, want nothing", got)
	}
}
