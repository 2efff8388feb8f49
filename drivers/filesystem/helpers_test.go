package filesystem

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// openAt opens the directory, and closes it at the end of the test.
func openAt(t testing.TB, root string) *bucket {
	t.Helper()
	return openOn(t, root, kernel())
}

// openOn is openAt with these system calls.
func openOn(t testing.TB, root string, sys system) *bucket {
	t.Helper()
	b, err := open(t.Context(), Config{Root: root}, sys)
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
	for o, err := range b.List(t.Context(), prefix, after, 0) {
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
