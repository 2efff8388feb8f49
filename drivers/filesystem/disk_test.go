package filesystem

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// syncs records the files that were synced, in order.
type syncs struct {
	mu    sync.Mutex
	files []fs.FileInfo
}

func (s *syncs) sync(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.files = append(s.files, info)
	s.mu.Unlock()
	return f.Sync()
}

// take returns the files that were synced since the last take.
func (s *syncs) take() []fs.FileInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := s.files
	s.files = nil
	return files
}

// TestWritesAreSynced checks that a write returns only after its file and the
// file's name are on disk: first the file is synced, then its directory, then
// new directories above.
func TestWritesAreSynced(t *testing.T) {
	var seen syncs
	root := filepath.Join(t.TempDir(), "new", "root")
	b := openOn(t, root, system{seen.sync, kernel().lstat})
	wantSynced(t, "Open", seen.take(), filepath.Dir(filepath.Dir(root)), filepath.Dir(root))
	ctx := t.Context()
	must := func(o drivers.Object, err error) drivers.Object {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	at := func(keys ...string) []string {
		for i, key := range keys {
			keys[i] = filepath.Join(root, key)
		}
		return keys
	}

	made := must(b.Create(ctx, "a/b/first", body("1")))
	wantSynced(t, "Create", seen.take(), at("a/b/first", "a/b", "a", ".")...)
	must(b.Create(ctx, "a/b/second", body("2")))
	wantSynced(t, "Create in the same directory", seen.take(), at("a/b/second", "a/b")...)
	must(b.Replace(ctx, "a/b/first", made.Tag, body("3")))
	wantSynced(t, "Replace", seen.take(), at("a/b/first", "a/b")...)

	for _, parts := range []int{1, 3} {
		u, err := b.StartUpload(ctx, path.Join("c", string(rune('0'+parts)), "whole"))
		if err != nil {
			t.Fatal(err)
		}
		dir, _ := uploadDir(u)
		wantSynced(t, "StartUpload", seen.take(), at(dir+keyFile, dir, path.Dir(dir))...)
		var done []drivers.Part
		var sum uint32
		for n := range parts {
			p, err := b.PutPart(ctx, u, n+1, body("part"))
			if err != nil {
				t.Fatal(err)
			}
			wantSynced(t, "PutPart", seen.take(), at(partFile(dir, p), dir)...)
			sum = drivers.CombineCRC32C(sum, p.CRC32C, p.Size)
			done = append(done, p)
		}
		must(b.Complete(ctx, u, done, sum))
		names := at(u.Key, path.Dir(u.Key), "c")
		if parts == 1 {
			names = names[1:] // the file of the part was synced when it was stored
		}
		wantSynced(t, "Complete", seen.take(), names...)
	}

	if err := b.Delete(ctx, "a/b/first"); err != nil {
		t.Fatal(err)
	}
	wantSynced(t, "Delete", seen.take(), at("a/b")...)
	o := must(b.Stat(ctx, "a/b/second"))
	if err := b.DeleteIf(ctx, "a/b/second", o.Tag); err != nil {
		t.Fatal(err)
	}
	wantSynced(t, "DeleteIf of the last object", seen.take(), root)
}

// wantSynced fails the test unless the files with these names were synced in
// this order. Other files may have been synced in between.
func wantSynced(t *testing.T, what string, synced []fs.FileInfo, names ...string) {
	t.Helper()
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(synced, func(f fs.FileInfo) bool { return os.SameFile(f, info) })
		if i < 0 {
			t.Errorf("%s did not sync %s, or synced it too early", what, name)
			continue
		}
		synced = synced[i+1:]
	}
}
