package filesystem

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
)

// everyCall makes each call that takes a key or the upload, and returns their
// errors by name.
func everyCall(t *testing.T, b drivers.Bucket, key string, u drivers.Upload, p drivers.Part) map[string]error {
	t.Helper()
	ctx := t.Context()
	_, statErr := b.Stat(ctx, key)
	_, _, openErr := b.Open(ctx, key, 0, -1)
	_, createErr := b.Create(ctx, key+"x", body("x"))
	_, replaceErr := b.Replace(ctx, key, "", body("x"))
	_, completeErr := b.Complete(ctx, u, []drivers.Part{p}, p.CRC32C)
	return map[string]error{
		"Stat": statErr, "Open": openErr, "Create": createErr, "Replace": replaceErr, "Complete": completeErr,
		"Delete": b.Delete(ctx, key), "DeleteIf": b.DeleteIf(ctx, key, ""),
	}
}

// listError returns the first error of List.
func listError(t *testing.T, b drivers.Bucket, prefix string) (first error) {
	t.Helper()
	for _, err := range b.List(t.Context(), prefix, "", 0) {
		first = cmp.Or(first, err)
	}
	return first
}

// wantNoClaim fails the test unless each call returned an error, and none that
// is a claim about a key.
func wantNoClaim(t *testing.T, errs map[string]error) {
	t.Helper()
	claims := []error{drivers.ErrNotFound, drivers.ErrExists, drivers.ErrChanged, drivers.ErrRange}
	for op, err := range errs {
		if err == nil || slices.ContainsFunc(claims, func(claim error) bool { return errors.Is(err, claim) }) {
			t.Errorf("%s = %v, want an error that makes no claim about the key", op, err)
		}
	}
}

// TestLinksOutOfTheRoot checks that no call follows a symbolic link out of the
// root.
func TestLinksOutOfTheRoot(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), fileMode); err != nil {
		t.Fatal(err)
	}
	b := openAt(t, root)
	for name, target := range map[string]string{
		"absolute": outside,
		"relative": filepath.Join("..", filepath.Base(outside)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
			u := start(t, b, name+"/new")
			errs := everyCall(t, b, name+"/secret", u, stream(t, b, u, 1, "x"))
			errs["List"] = listError(t, b, name+"/")
			wantNoClaim(t, errs)
		})
	}
	if diff := gocmp.Diff([]string{"secret"}, files(t, outside)); diff != "" {
		t.Errorf("outside the root (-want +got):\n%s", diff)
	}
	if got := list(t, b, "", ""); len(got) > 0 {
		t.Errorf("List = %q, want nothing", got)
	}
}

// TestForgedUploads checks that no upload ID leads to another path. IDs are read
// from the bucket's records.
func TestForgedUploads(t *testing.T) {
	b := openAt(t, t.TempDir())
	ctx := t.Context()
	create(t, b, "meta/kk", "x")
	cut := "../../" + strings.Repeat("./", 121) + "meta/kk" // 255 bytes, so that the key after it is truncated
	for _, id := range []string{"", ".", "..", "../../meta", cut, strings.Repeat("A", 25) + "/", strings.Repeat("a", 26)} {
		u := drivers.Upload{Key: "k", ID: id}
		if err := b.Abort(ctx, u); err != nil {
			t.Errorf("Abort of %q = %v, want nil", id, err)
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
		t.Errorf("object meta/kk = %q, want \"x\"", got)
	}
}

// TestForgedTags checks that no tag of a part leads to another path.
func TestForgedTags(t *testing.T) {
	b := openAt(t, t.TempDir())
	u := start(t, b, "data/k")
	p := stream(t, b, u, 1, "abc")
	for _, tag := range []string{"", "-", "key", "../key", p.Tag + "0", strings.Replace(p.Tag, "-", "/", 1), partTag("../key", p.CRC32C)} {
		forged := p
		forged.Tag = tag
		if _, err := b.Complete(t.Context(), u, []drivers.Part{forged}, p.CRC32C); !errors.Is(err, drivers.ErrChanged) {
			t.Errorf("Complete of a part with tag %q = %v, want %v", tag, err, drivers.ErrChanged)
		}
	}
}

// TestRemovedRoot checks that a bucket that was removed does not return
// ErrNotFound, which is a claim about a key.
func TestRemovedRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	b := openAt(t, root)
	u := start(t, b, "data/k")
	p := stream(t, b, u, 1, "x")
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	errs := everyCall(t, b, "k", u, p)
	errs["List"] = listError(t, b, "")
	_, errs["StreamPart"] = b.StreamPart(t.Context(), u, 1, strings.NewReader("x"))
	wantNoClaim(t, errs)
}
