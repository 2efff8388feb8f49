package filesystem

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// sparse is the size of a file of which only the last byte is written.
const sparse = 3 << 30

// TestLargeFiles checks that a file of more than 2 GiB can be written, joined
// from parts, described and read. A 32-bit process needs O_LARGEFILE for each
// of these.
func TestLargeFiles(t *testing.T) {
	b := openAt(t, t.TempDir())
	disk := b.objectStore.disk
	fill := func(f *os.File) error {
		_, err := f.WriteAt([]byte("x"), sparse-1)
		return err
	}
	if _, err := disk.write("part", fill); err != nil {
		t.Fatalf("write of %d bytes = %v", int64(sparse), err)
	}
	for _, name := range []string{"data/new/aa/written", "large"} {
		if err := disk.publish(t.Context(), "part", name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := disk.write("joined", func(f *os.File) error { return appendLastByte(f, disk) }); err != nil {
		t.Errorf("write past %d bytes = %v", int64(sparse), err)
	}
	if err := b.appendPart(t.Context(), discarding(t), "part", 1); err != nil {
		t.Errorf("appendPart of %d bytes = %v", int64(sparse), err)
	}
	wantLarge(t, b, "data/new/aa/written")
}

// appendLastByte copies the last byte of the part behind sparse bytes of f.
func appendLastByte(f *os.File, d disk) error {
	if _, err := f.Seek(sparse, io.SeekStart); err != nil {
		return err
	}
	from, err := d.openRead("part")
	if err != nil {
		return err
	}
	defer from.Close()
	if _, err := from.Seek(sparse-1, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return err
}

// wantLarge checks that Stat, Open and List work for a sparse object.
func wantLarge(t *testing.T, b drivers.Bucket, key string) {
	t.Helper()
	if o, err := b.Stat(t.Context(), key); err != nil || o.Size != sparse {
		t.Errorf("Stat = %d bytes, %v, want %d", o.Size, err, int64(sparse))
	}
	for _, n := range []int64{-1, 1} {
		rc, _, err := b.Open(t.Context(), key, sparse-1, n)
		if err != nil {
			t.Errorf("Open(%d, %d) = %v", int64(sparse-1), n, err)
			continue
		}
		if got, err := io.ReadAll(rc); err != nil || string(got) != "x" {
			t.Errorf("read of Open(%d, %d) = %q, %v, want \"x\"", int64(sparse-1), n, got, err)
		}
		rc.Close()
	}
	for o, err := range b.List(t.Context(), "data/", "", 0) {
		if err != nil || o.Size != sparse {
			t.Errorf("List returns %d bytes, %v, want %d", o.Size, err, int64(sparse))
		}
	}
}

// discarding returns a file for bytes that no test reads.
func discarding(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestLong32Bit runs the other tests of this package in a 32-bit process.
func TestLong32Bit(t *testing.T) {
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("takes a minute to compile: set BERTH_TEST_LONG=1 (or run make test-long)")
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skipf("32-BIT PROCESS NOT TESTED: %s on %s may not run one", runtime.GOOS, runtime.GOARCH)
	}
	binary := filepath.Join(t.TempDir(), "filesystem.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	run := exec.CommandContext(t.Context(), binary)
	run.Env = append(os.Environ(), "BERTH_TEST_LONG=")
	out, err := run.CombinedOutput()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("32-BIT PROCESS NOT TESTED: this kernel does not run one: ", err)
	}
	if err != nil {
		t.Errorf("%v: %v\n%s", run, err, bytes.TrimSpace(out))
	}
}

// TestFilesAreOpenedAsLarge checks the source: every file must be opened with
// largeFile. A 64-bit process does not need the flag, so no other test detects
// a call without it.
func TestFilesAreOpenedAsLarge(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	directories := []string{"dir", "stagedDir", `"."`} // the arguments that Root.Open may have
	found := 0
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, source, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || types.ExprString(f.X) == "os" { // package os opens large files by itself
				return true
			}
			switch f.Sel.Name {
			case "OpenFile":
				found++
				if flags := types.ExprString(call.Args[1]); !strings.Contains(flags, "largeFile") {
					t.Errorf("%v: OpenFile with %s, want largeFile among the flags", set.Position(call.Pos()), flags)
				}
			case "Open", "Create":
				if name := types.ExprString(call.Args[0]); !slices.Contains(directories, name) {
					t.Errorf("%v: %s of %s, want OpenFile with largeFile", set.Position(call.Pos()), f.Sel.Name, name)
				}
			}
			return true
		})
	}
	if found == 0 {
		t.Error("no call of OpenFile found in the source")
	}
}
