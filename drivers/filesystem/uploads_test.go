package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
)

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
	wantFiles(t, root, "StreamPart", dir+"/", dir+keyFile)
}

// readerFunc is a function as an io.Reader.
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
		for _, r := range []io.Reader{
			strings.NewReader(data),
			iotest.HalfReader(strings.NewReader(data)),
			iotest.DataErrReader(strings.NewReader(data)),
		} {
			u := start(t, b, fmt.Sprintf("data/%d", n))
			p, err := b.StreamPart(t.Context(), u, 1, r)
			if err != nil || p.Size != int64(n) || p.CRC32C != body(data).CRC32C {
				t.Fatalf("StreamPart of %d bytes = %+v, %v, want crc %08x", n, p, err, body(data).CRC32C)
			}
			if _, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C); err != nil {
				t.Fatal(err)
			}
			if got := read(t, b, u.Key); got != data {
				t.Errorf("the %d bytes of the object differ from the part", n)
			}
			if err := b.Delete(t.Context(), u.Key); err != nil {
				t.Fatal(err)
			}
		}
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
		t.Fatalf("Complete = %+v, %v, want Modified %v", first, err, past)
	}
	second, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C)
	if diff := gocmp.Diff(first, second); err != nil || diff != "" {
		t.Errorf("second Complete = %v (-first +second):\n%s", err, diff)
	}
}

// TestCompleteLinkedBefore completes an upload that was already linked, as when
// Complete was killed after its link or NFS lost the response to the link.
func TestCompleteLinkedBefore(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	if err := b.objectStore.disk.root.Mkdir("data", dirMode); err != nil {
		t.Fatal(err)
	}
	u := start(t, b, "data/k")
	p := stream(t, b, u, 1, "abc")
	if err := b.objectStore.disk.root.Link(partFile(stagedName(u.ID, u.Key), p), u.Key); err != nil {
		t.Fatal(err)
	}
	o, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C)
	if err != nil || o.Size != 3 || len(uploads(t, b, "")) > 0 {
		t.Errorf("Complete = %+v, %v, and Uploads = %v, want 3 bytes and no upload", o, err, uploads(t, b, ""))
	}

	staged, _, err := b.stage(t.Context(), "data/l", body("x"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.objectStore.disk.publish(t.Context(), staged, "data/l"); err != nil {
			t.Errorf("publish = %v, want nil, because the file is the same", err)
		}
	}
	if err := b.objectStore.disk.publish(t.Context(), staged, "data/k"); !errors.Is(err, drivers.ErrExists) {
		t.Errorf("publish onto another file = %v, want %v", err, drivers.ErrExists)
	}
}

// TestMissingParts completes uploads of which a part is truncated, a part is
// deleted, and all parts are deleted.
func TestMissingParts(t *testing.T) {
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
	wantFiles(t, root, "Abort")
}
