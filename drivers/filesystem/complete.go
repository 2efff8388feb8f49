package filesystem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// copyStep is how many bytes Complete copies between two checks of the context.
const copyStep = 64 << 20

// Complete links the file of a single part to the key. Several parts are first
// copied to one file by copy_file_range(2), which shares the blocks on XFS and
// Btrfs, and that file is linked. The upload is deleted only once the object is
// durable. A second call, even after the first was killed, therefore finds
// either the parts or the object.
func (s *uploadStore) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (_ drivers.Object, err error) {
	defer func() { err = failed("complete", u.Key, err) }()
	if err := check(ctx, u.Key); err != nil {
		return drivers.Object{}, err
	}
	if _, err := drivers.CheckParts(parts, crc32c, limits()); err != nil {
		return drivers.Object{}, err
	}
	if o, err := s.completed(u); !errors.Is(err, drivers.ErrNotFound) {
		return o, err
	}
	dir, ok := uploadDir(u)
	if !ok {
		return drivers.Object{}, drivers.ErrNotFound
	}
	err = s.join(ctx, dir, u.Key, parts)
	switch {
	case err == nil, errors.Is(err, drivers.ErrExists):
		return s.completed(u)
	case !errors.Is(err, drivers.ErrChanged):
		return drivers.Object{}, err
	}
	// Another call may have completed the upload and deleted the parts.
	if o, err := s.completed(u); !errors.Is(err, drivers.ErrNotFound) {
		return o, err
	}
	if _, err := s.disk.root.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return drivers.Object{}, s.disk.notFound()
	}
	return drivers.Object{}, err
}

// completed returns the object at the upload's key, or ErrNotFound. It makes
// the object's name durable, and only then deletes the upload.
func (s *uploadStore) completed(u drivers.Upload) (drivers.Object, error) {
	o, err := s.objects.stat(u.Key)
	if err != nil {
		return drivers.Object{}, err
	}
	if err := s.disk.syncDirs(path.Dir(u.Key), 0); err != nil {
		return drivers.Object{}, err
	}
	if dir, ok := uploadDir(u); ok {
		s.disk.discard(dir)
	}
	return o, nil
}

// join publishes the parts as one file. It returns ErrChanged if a part is
// missing.
func (s *uploadStore) join(ctx context.Context, dir, key string, parts []drivers.Part) error {
	files := make([]string, len(parts))
	for i, p := range parts {
		files[i] = partFile(dir, p)
		info, err := s.disk.root.Lstat(files[i])
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != p.Size {
			return fmt.Errorf("part %d: %w", p.Number, drivers.ErrChanged)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	whole := files[0]
	if len(files) > 1 {
		whole = dir + "/whole-" + rand.Text()
		_, err := s.disk.write(whole, func(f *os.File) error {
			for i, p := range parts {
				if err := s.appendPart(ctx, f, files[i], p.Size); err != nil {
					return fmt.Errorf("part %d: %w", p.Number, err)
				}
			}
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("removed while it was read: %w", drivers.ErrChanged)
		}
		if err != nil {
			return err
		}
		defer s.disk.discard(whole)
	}
	err := s.disk.publish(ctx, whole, key)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removed while it was published: %w", drivers.ErrChanged)
	}
	return err
}

// partFile returns the path of a part. If the driver cannot have returned the
// tag, or the tag contradicts the part's checksum, it returns a path at which
// no file ever exists.
func partFile(dir string, p drivers.Part) string {
	name, _, _ := strings.Cut(p.Tag, "-")
	if !validName(name) || p.Tag != partTag(name, p.CRC32C) {
		name = "none"
	}
	return fmt.Sprintf("%s/%d-%s", dir, p.Number, name)
}

// appendPart copies a part to the end of f. Both are regular files, so io.CopyN
// lets the kernel copy.
func (s *uploadStore) appendPart(ctx context.Context, f *os.File, part string, size int64) error {
	from, err := s.disk.openRead(part)
	if err != nil {
		return err
	}
	defer from.Close()
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(f, from, min(size, copyStep))
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}
