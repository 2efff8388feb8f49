package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// TestOpenCreatesTheDirectory opens a missing directory, with a prefix of two
// levels.
func TestOpenCreatesTheDirectory(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	b, err := Open(t.Context(), Config{Root: root, Prefix: "c/d/"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	create(t, b, "k", "x")
	if got, err := os.ReadFile(filepath.Join(root, "c", "d", "k")); err != nil || string(got) != "x" {
		t.Errorf("the file of the key contains %q, %v, want \"x\"", got, err)
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
		t.Errorf("Open left %q outside the root", got)
	}
}

// TestOpenRefusesARootThatFoldsCase checks that Open refuses a root where names
// that differ in case are one name. A replaced lstat simulates such a file
// system.
func TestOpenRefusesARootThatFoldsCase(t *testing.T) {
	for name, lstat := range map[string]func(*os.Root, string) (fs.FileInfo, error){
		"folds": func(r *os.Root, name string) (fs.FileInfo, error) {
			return r.Lstat(path.Dir(name) + "/" + strings.ToLower(path.Base(name)))
		},
		"fails": func(*os.Root, string) (fs.FileInfo, error) { return nil, errors.ErrUnsupported },
	} {
		root := t.TempDir()
		_, err := open(t.Context(), Config{Root: root}, system{kernel().fsync, lstat})
		switch {
		case name == "folds" && (err == nil || !strings.Contains(err.Error(), "not case-sensitive")):
			t.Errorf("Open on a root that folds case = %v, want \"not case-sensitive\"", err)
		case name == "fails" && !errors.Is(err, errors.ErrUnsupported):
			t.Errorf("Open = %v, want %v", err, errors.ErrUnsupported)
		}
		if got := files(t, root); len(got) > 0 {
			t.Errorf("Open left %q", got)
		}
	}
}

// TestCaseOfKeys checks that keys that differ in case are two objects.
func TestCaseOfKeys(t *testing.T) {
	b, err := Open(t.Context(), Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, key := range []string{"tags/v1", "tags/V1"} {
		if _, err := b.Create(t.Context(), key, drivers.NewBody([]byte(key))); err != nil {
			t.Errorf("Create %s: %v", key, err)
		}
	}
}

// TestErrors checks that errors of the disk make no claim about a key.
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
			t.Errorf("failed(%v) = %v, want ErrBusy: %v, ErrFull: %v", test.errno, err, test.busy, test.full)
		}
		for _, sentinel := range []error{drivers.ErrNotFound, drivers.ErrExists, drivers.ErrChanged, drivers.ErrRange} {
			if errors.Is(err, sentinel) {
				t.Errorf("failed(%v) = %v, which claims %v", test.errno, err, sentinel)
			}
		}
	}
}
