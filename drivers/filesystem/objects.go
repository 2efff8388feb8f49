package filesystem

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// smallBody is the size of the largest body with its SHA-256 as tag. Records
// are much smaller. A larger body would be hashed again on every read.
const smallBody = 1 << 20

// objectStore is the files under keys.
type objectStore struct {
	disk  disk
	locks *locks
}

// Create stores body under key by staging a file and linking it to the key. It
// returns ErrExists if the key is taken.
func (s *objectStore) Create(ctx context.Context, key string, body drivers.Body) (_ drivers.Object, err error) {
	defer func() { err = failed("create", key, err) }()
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, err
	}
	staged, o, err := s.stage(ctx, key, body)
	if err != nil {
		return drivers.Object{}, err
	}
	defer s.disk.discard(staged)
	if err := s.disk.publish(ctx, staged, key); err != nil {
		return drivers.Object{}, err
	}
	return o, nil
}

// Replace stores body in place of the version that has this tag. It stages a
// file and then, under the lock, compares the tag and renames the file. It
// returns ErrChanged if the object has another tag or is gone.
func (s *objectStore) Replace(ctx context.Context, key, tag string, body drivers.Body) (_ drivers.Object, err error) {
	defer func() { err = failed("replace", key, err) }()
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, err
	}
	staged, o, err := s.stage(ctx, key, body)
	if err != nil {
		return drivers.Object{}, err
	}
	defer s.disk.discard(staged)
	unlock, err := s.locks.lock(ctx, key)
	if err != nil {
		return drivers.Object{}, err
	}
	defer unlock()
	existing, err := s.stat(key)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return drivers.Object{}, drivers.ErrChanged
	case err != nil:
		return drivers.Object{}, err
	case existing.Tag != tag:
		return drivers.Object{}, drivers.ErrChanged
	}
	if err := s.disk.root.Rename(staged, key); err != nil {
		return drivers.Object{}, err
	}
	// Sync under the lock, so that a caller that receives ErrChanged can rely
	// on the change being durable.
	if err := s.disk.syncDirs(path.Dir(key), 0); err != nil {
		return drivers.Object{}, err
	}
	return o, nil
}

// stage stores body in a staged file. It returns the file's name and the Object
// that the file will be once it has its key.
func (s *objectStore) stage(ctx context.Context, key string, body drivers.Body) (string, drivers.Object, error) {
	if body.Size == 0 {
		return "", drivers.Object{}, errors.New("empty body")
	}
	name := stagedName(rand.Text(), key)
	info, err := s.disk.write(name, func(f *os.File) error {
		var crc uint32
		for _, segment := range body.Segments {
			if err := ctx.Err(); err != nil {
				return err
			}
			crc = drivers.UpdateCRC32C(crc, segment)
			if _, err := f.Write(segment); err != nil {
				return err
			}
		}
		if crc != body.CRC32C {
			return fmt.Errorf("body has CRC-32C %08x, want %08x", crc, body.CRC32C)
		}
		return nil
	})
	if err != nil {
		return "", drivers.Object{}, err
	}
	o, err := describe(key, info, body.Reader())
	if err != nil {
		s.disk.discard(name)
		return "", drivers.Object{}, err
	}
	return name, o, nil
}

// DeleteIf deletes the version that has this tag. It returns ErrChanged if the
// object has another tag.
func (s *objectStore) DeleteIf(ctx context.Context, key, tag string) (err error) {
	defer func() { err = failed("delete", key, err) }()
	if err := check(ctx, key); err != nil {
		return err
	}
	kept, err := s.remove(ctx, key, func() error {
		existing, err := s.stat(key)
		if err == nil && existing.Tag != tag {
			return drivers.ErrChanged
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.disk.syncDirs(kept, 0)
}

// Delete deletes the objects one by one, and then makes all deletions durable.
func (s *objectStore) Delete(ctx context.Context, keys ...string) error {
	if err := check(ctx, keys...); err != nil {
		return fmt.Errorf("filesystem: delete: %w", err)
	}
	dirs := map[string]bool{}
	for _, key := range keys {
		kept, err := s.remove(ctx, key, func() error {
			info, err := s.disk.root.Lstat(key)
			if absent(err) || err == nil && info.IsDir() {
				return s.disk.notFound()
			}
			return err
		})
		if err != nil {
			return failed("delete", key, err)
		}
		dirs[kept] = true
	}
	for dir := range dirs {
		if err := s.disk.syncDirs(dir, 0); err != nil {
			return failed("delete", dir, err)
		}
	}
	return nil
}

// remove unlinks key under its lock, if allow returns nil, and then removes the
// directories that are empty. It returns the directory that has to be synced.
// It also returns that directory if allow returns ErrNotFound, because the
// process that deleted the object may not have synced it yet. In that case
// remove does not unlink: a Create, which takes no lock, may have stored a new
// object since.
func (s *objectStore) remove(ctx context.Context, key string, allow func() error) (kept string, err error) {
	unlock, err := s.locks.lock(ctx, key)
	if err != nil {
		return "", err
	}
	defer unlock()
	err = allow()
	if err == nil {
		err = s.disk.root.Remove(key)
	}
	if err != nil && !errors.Is(err, drivers.ErrNotFound) {
		return "", err
	}
	return s.disk.prune(path.Dir(key)), nil
}

// Open opens the file of a key. The reader keeps the version that it opened,
// even if the key is replaced or deleted meanwhile.
func (s *objectStore) Open(ctx context.Context, key string, off, n int64) (_ io.ReadCloser, _ drivers.Object, err error) {
	defer func() { err = failed("open", key, err) }()
	if err := check(ctx, key); err != nil {
		return nil, drivers.Object{}, err
	}
	if off < 0 || n == 0 || n < -1 {
		return nil, drivers.Object{}, fmt.Errorf("range of %d bytes from %d", n, off)
	}
	f, o, err := s.find(key)
	if err != nil {
		return nil, drivers.Object{}, err
	}
	if off > 0 && off >= o.Size {
		f.Close()
		return nil, drivers.Object{}, fmt.Errorf("%d of %d bytes: %w", off, o.Size, drivers.ErrRange)
	}
	if n == -1 {
		n = o.Size - off
	}
	return &fileReader{io.NewSectionReader(f, off, n), f}, o, nil
}

// fileReader reads a range of a file.
type fileReader struct {
	*io.SectionReader
	file *os.File
}

var _ drivers.FileReader = (*fileReader)(nil)

// File returns the file.
func (r *fileReader) File() *os.File { return r.file }

// Close closes the file.
func (r *fileReader) Close() error { return r.file.Close() }

// Stat returns the object's description. It returns ErrNotFound if the key is
// absent.
func (s *objectStore) Stat(ctx context.Context, key string) (drivers.Object, error) {
	err := check(ctx, key)
	var o drivers.Object
	if err == nil {
		o, err = s.stat(key)
	}
	return o, failed("stat", key, err)
}

func (s *objectStore) stat(key string) (drivers.Object, error) {
	f, o, err := s.find(key)
	if err != nil {
		return drivers.Object{}, err
	}
	f.Close()
	return o, nil
}

// find opens the file of a key and returns it with its description. It returns
// ErrNotFound if the key is absent.
func (s *objectStore) find(key string) (*os.File, drivers.Object, error) {
	f, err := s.disk.openRead(key)
	if absent(err) {
		return nil, drivers.Object{}, s.disk.notFound()
	}
	if err != nil {
		return nil, drivers.Object{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = drivers.ErrNotFound
	}
	var o drivers.Object
	if err == nil {
		o, err = describe(key, info, io.NewSectionReader(f, 0, info.Size()))
	}
	if err != nil {
		f.Close()
		return nil, drivers.Object{}, err
	}
	return f, o, nil
}

// describe returns the Object, including its tag, of a file with this content.
func describe(key string, info fs.FileInfo, content io.Reader) (drivers.Object, error) {
	o := drivers.Object{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}
	if strings.HasPrefix(key, drivers.BulkPrefix) || o.Size > smallBody {
		number, err := inode(info)
		if err != nil {
			return drivers.Object{}, err
		}
		o.Tag = fmt.Sprintf("%s-%x-%x", number, o.Size, o.Modified.UnixNano())
		return o, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, content); err != nil {
		return drivers.Object{}, err
	}
	o.Tag = fmt.Sprintf("%x", h.Sum(nil))
	return o, nil
}
