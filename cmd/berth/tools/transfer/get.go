package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
)

// ErrDamaged reports that stored bytes do not have their digest.
var ErrDamaged = errors.New("the stored bytes do not have this digest: push the blob again from where it came")

// Download is a blob to fetch.
type Download struct {
	Digest digest.Digest
	Size   int64                                                   // bytes
	Open   func(context.Context) (blobstore.ReadSeekCloser, error) // the bytes
	Watch  func(io.Reader) io.Reader                               // sees what is read
}

// PartName returns the name of the file that has the bytes of an unfinished download. It
// has a part of the digest, so that downloads of two blobs to the same file never mix.
func PartName(file string, d digest.Digest) string {
	return file + "." + d.Encoded()[:12] + ".part"
}

// Write writes the blob to w. It returns ErrDamaged, after it has written all bytes, if
// they do not have the digest.
func (d Download) Write(ctx context.Context, w io.Writer) error {
	sum := d.Digest.Algorithm().Hash()
	if err := d.copy(ctx, io.MultiWriter(w, sum), 0); err != nil {
		return err
	}
	return d.verify(sum)
}

// File writes the blob to a file, which has either all bytes or is not changed. If it is
// interrupted, the bytes are in the file PartName, and another call continues after them.
// It returns ErrDamaged, and removes that file, if the bytes do not have the digest.
func (d Download) File(ctx context.Context, name string) (err error) {
	part := PartName(name, d.Digest)
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // as cp does; umask decides
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := d.fill(ctx, f)
	if err != nil {
		return err
	}
	if err := d.verify(sum); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(part, name)
}

// fill appends to f what it lacks, and returns the hash of all its bytes. If the bytes
// that f had were wrong, it starts again.
func (d Download) fill(ctx context.Context, f *os.File) (hash.Hash, error) {
	sum := d.Digest.Algorithm().Hash()
	had, err := io.Copy(sum, &contextReader{ctx, f})
	if err != nil {
		return nil, err
	}
	if had <= d.Size {
		if err := d.copy(ctx, io.MultiWriter(f, sum), had); err != nil {
			return nil, err
		}
		if had == 0 || d.verify(sum) == nil {
			return sum, nil
		}
	}
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	sum.Reset()
	return sum, d.copy(ctx, io.MultiWriter(f, sum), 0)
}

// copy writes the bytes from off to w.
func (d Download) copy(ctx context.Context, w io.Writer, off int64) error {
	if off == d.Size {
		return nil
	}
	rc, err := d.Open(ctx)
	if err != nil {
		return err
	}
	defer rc.Close()
	if _, err := rc.Seek(off, io.SeekStart); err != nil {
		return err
	}
	var r io.Reader = &contextReader{ctx, rc}
	if d.Watch != nil {
		r = d.Watch(r)
	}
	n, err := io.Copy(w, r)
	if err == nil && off+n != d.Size {
		err = fmt.Errorf("%w: it has %d bytes, want %d", ErrDamaged, off+n, d.Size)
	}
	return err
}

func (d Download) verify(sum hash.Hash) error {
	if got := digest.NewDigest(d.Digest.Algorithm(), sum); got != d.Digest {
		return fmt.Errorf("%s: %w (they have %s)", d.Digest, ErrDamaged, got)
	}
	return nil
}

// WriteFile writes content to a file, which has either all of it or is not changed.
func WriteFile(name string, d digest.Digest, content []byte) error {
	part := PartName(name, d)
	if err := os.WriteFile(part, content, 0o644); err != nil { //nolint:gosec // as cp does; umask decides
		return err
	}
	return os.Rename(part, name)
}

// PartSize returns the bytes that an unfinished download of the blob has.
func PartSize(name string, d digest.Digest) (int64, error) {
	info, err := os.Stat(PartName(name, d))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
