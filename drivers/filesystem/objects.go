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

// Create stores body under key by staging a file and linking it to the key. It
// returns ErrExists if the key is taken.
func (b *bucket) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	o, err := b.create(ctx, key, body)
	return o, failed("create", key, err)
}

func (b *bucket) create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, err
	}
	staged, o, err := b.stage(ctx, key, body)
	if err != nil {
		return drivers.Object{}, err
	}
	defer b.discard(staged)
	if err := b.publish(ctx, staged, key); err != nil {
		return drivers.Object{}, err
	}
	return o, nil
}

// Replace stores body in place of the version that has this tag. It stages a
// file and then, under the lock, compares the tag and renames the file. It
// returns ErrChanged if the object has another tag or is gone.
func (b *bucket) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	o, err := b.replace(ctx, key, tag, body)
	return o, failed("replace", key, err)
}

func (b *bucket) replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, err
	}
	staged, o, err := b.stage(ctx, key, body)
	if err != nil {
		return drivers.Object{}, err
	}
	defer b.discard(staged)
	unlock, err := b.lock(ctx, key)
	if err != nil {
		return drivers.Object{}, err
	}
	defer unlock()
	now, err := b.stat(key)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return drivers.Object{}, drivers.ErrChanged
	case err != nil:
		return drivers.Object{}, err
	case now.Tag != tag:
		return drivers.Object{}, drivers.ErrChanged
	}
	if err := b.root.Rename(staged, key); err != nil {
		return drivers.Object{}, err
	}
	// Sync under the lock, so that a caller that receives ErrChanged can rely
	// on the change being durable.
	if err := syncDirs(b.root, path.Dir(key), 0); err != nil {
		return drivers.Object{}, err
	}
	return o, nil
}

// stage stores body in a staged file. It returns the file's name and the Object
// that the file will be once it has its key.
func (b *bucket) stage(ctx context.Context, key string, body drivers.Body) (string, drivers.Object, error) {
	if body.Size == 0 {
		return "", drivers.Object{}, errors.New("empty body")
	}
	name := stagedName(rand.Text(), key)
	info, err := b.write(name, func(f *os.File) error {
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
			return fmt.Errorf("body has CRC-32C %08x, not %08x as it says", crc, body.CRC32C)
		}
		return nil
	})
	if err != nil {
		return "", drivers.Object{}, err
	}
	o, err := describe(key, info, body.Reader())
	if err != nil {
		b.discard(name)
		return "", drivers.Object{}, err
	}
	return name, o, nil
}

// DeleteIf deletes the version that has this tag. It returns ErrChanged if the
// object has another tag.
func (b *bucket) DeleteIf(ctx context.Context, key, tag string) error {
	return failed("delete", key, b.deleteIf(ctx, key, tag))
}

func (b *bucket) deleteIf(ctx context.Context, key, tag string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	kept, err := b.remove(ctx, key, func() error {
		now, err := b.stat(key)
		if err == nil && now.Tag != tag {
			return drivers.ErrChanged
		}
		return err
	})
	if err != nil {
		return err
	}
	return syncDirs(b.root, kept, 0)
}

// Delete deletes the objects one by one, and then makes all deletions durable.
func (b *bucket) Delete(ctx context.Context, keys ...string) error {
	if err := check(ctx, keys...); err != nil {
		return fmt.Errorf("filesystem: delete: %w", err)
	}
	dirs := map[string]bool{}
	for _, key := range keys {
		kept, err := b.remove(ctx, key, func() error {
			info, err := b.root.Lstat(key)
			if absent(err) || err == nil && info.IsDir() {
				return b.notFound()
			}
			return err
		})
		if err != nil {
			return failed("delete", key, err)
		}
		dirs[kept] = true
	}
	for dir := range dirs {
		if err := syncDirs(b.root, dir, 0); err != nil {
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
func (b *bucket) remove(ctx context.Context, key string, allow func() error) (kept string, err error) {
	unlock, err := b.lock(ctx, key)
	if err != nil {
		return "", err
	}
	defer unlock()
	err = allow()
	if err == nil {
		err = b.root.Remove(key)
	}
	if err != nil && !errors.Is(err, drivers.ErrNotFound) {
		return "", err
	}
	return prune(b.root, path.Dir(key)), nil
}

// Open opens the file of a key. The reader keeps the version that it opened,
// even if the key is replaced or deleted meanwhile.
func (b *bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	r, o, err := b.read(ctx, key, off, n)
	if err != nil {
		return nil, drivers.Object{}, failed("open", key, err)
	}
	return r, o, nil
}

func (b *bucket) read(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if err := check(ctx, key); err != nil {
		return nil, drivers.Object{}, err
	}
	if off < 0 || n == 0 || n < -1 {
		return nil, drivers.Object{}, fmt.Errorf("range of %d bytes from %d", n, off)
	}
	f, o, err := b.find(key)
	if err != nil {
		return nil, drivers.Object{}, err
	}
	if off > 0 && off >= o.Size {
		f.Close()
		return nil, drivers.Object{}, fmt.Errorf("%d of %d bytes: %w", off, o.Size, drivers.ErrRange)
	}
	if n == -1 {
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			f.Close()
			return nil, drivers.Object{}, err
		}
		return f, o, nil
	}
	return struct {
		*io.SectionReader
		io.Closer
	}{io.NewSectionReader(f, off, n), f}, o, nil
}

// Stat returns the object's description. It returns ErrNotFound if the key is
// absent.
func (b *bucket) Stat(ctx context.Context, key string) (drivers.Object, error) {
	err := check(ctx, key)
	var o drivers.Object
	if err == nil {
		o, err = b.stat(key)
	}
	return o, failed("stat", key, err)
}

func (b *bucket) stat(key string) (drivers.Object, error) {
	f, o, err := b.find(key)
	if err != nil {
		return drivers.Object{}, err
	}
	f.Close()
	return o, nil
}

// openRead opens a file of any size for reading.
func (b *bucket) openRead(name string) (*os.File, error) {
	return b.root.OpenFile(name, os.O_RDONLY|largeFile, 0)
}

// find opens the file of a key and returns it with its description. It returns
// ErrNotFound if the key is absent.
func (b *bucket) find(key string) (*os.File, drivers.Object, error) {
	f, err := b.openRead(key)
	if absent(err) {
		return nil, drivers.Object{}, b.notFound()
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
