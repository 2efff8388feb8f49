package filesystem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
)

// writeBackStep is how many bytes of a part are written back to disk at a time.
const writeBackStep = 8 << 20

// keyFile is the file in an upload's directory that holds the upload's key.
const keyFile = "/key"

// stagedName returns the path of a staged file or upload. The path contains the
// key because Uploads has no other source for it if a process was killed before
// it wrote keyFile.
func stagedName(id, key string) string {
	name := id + "," + strings.ReplaceAll(key, "/", ",")
	return stagedDir + "/" + name[:min(len(name), 255)]
}

// uploadDir returns the path of an upload. It returns false if this driver
// cannot have created the ID, so that no other path is built from an ID.
func uploadDir(u drivers.Upload) (string, bool) {
	return stagedName(u.ID, u.Key), validName(u.ID)
}

// validName reports whether s can be a result of rand.Text.
func validName(s string) bool {
	return len(s) == 26 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// uploadStore is the directories of uploads. Complete turns an upload into an
// object.
type uploadStore struct {
	disk    disk
	objects *objectStore
}

// StartUpload creates the upload's directory.
func (s *uploadStore) StartUpload(ctx context.Context, key string) (_ drivers.Upload, err error) {
	defer func() { err = failed("start upload", key, err) }()
	if err := check(ctx, key); err != nil {
		return drivers.Upload{}, err
	}
	u := drivers.Upload{Key: key, ID: rand.Text()}
	dir := stagedName(u.ID, key)
	if err := s.disk.root.Mkdir(dir, dirMode); err != nil {
		return drivers.Upload{}, err
	}
	info, err := s.disk.write(dir+keyFile, func(f *os.File) error {
		_, err := f.WriteString(key)
		return err
	})
	if err == nil {
		err = s.disk.syncDirs(dir, 1)
	}
	if err != nil {
		s.disk.discard(dir)
		return drivers.Upload{}, err
	}
	u.Started = started(info)
	return u, nil
}

func started(info fs.FileInfo) time.Time { return info.ModTime().UTC().Truncate(time.Second) }

// PutPart stores a part. It returns an error if the body's size or checksum is
// wrong.
func (s *uploadStore) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	p, err := s.putPart(ctx, u, number, body.Reader(), func(size int64, crc uint32) error {
		if size != body.Size || crc != body.CRC32C {
			return fmt.Errorf("body has %d bytes of CRC-32C %08x, not %d of %08x as announced", size, crc, body.Size, body.CRC32C)
		}
		return nil
	})
	return p, failed(fmt.Sprintf("part %d of", number), u.Key, err)
}

// StreamPart stores a part of unknown length and computes its checksum.
func (s *uploadStore) StreamPart(ctx context.Context, u drivers.Upload, number int, body io.Reader) (drivers.Part, error) {
	p, err := s.putPart(ctx, u, number, body, func(int64, uint32) error { return nil })
	return p, failed(fmt.Sprintf("part %d of", number), u.Key, err)
}

func (s *uploadStore) putPart(ctx context.Context, u drivers.Upload, number int, body io.Reader,
	allow func(size int64, crc uint32) error) (drivers.Part, error) {
	if err := check(ctx, u.Key); err != nil {
		return drivers.Part{}, err
	}
	if number < 1 || number > limits().MaxParts {
		return drivers.Part{}, fmt.Errorf("want a number from 1 to %d", limits().MaxParts)
	}
	dir, ok := uploadDir(u)
	if !ok {
		return drivers.Part{}, drivers.ErrNotFound
	}
	name := rand.Text()
	file := fmt.Sprintf("%s/%d-%s", dir, number, name)
	var size int64
	var crc uint32
	var bodyErr error // the body's error, even one that wraps fs.ErrNotExist, is no claim about the upload
	_, err := s.disk.write(file, func(f *os.File) (err error) {
		size, crc, err = copyBody(ctx, f, body)
		if err == nil && size == 0 {
			err = errors.New("empty part")
		}
		if err == nil {
			err = allow(size, crc)
		}
		bodyErr = err
		return err
	})
	if bodyErr != nil {
		return drivers.Part{}, bodyErr
	}
	if err == nil {
		err = s.disk.syncDir(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return drivers.Part{}, s.disk.notFound()
	}
	if err != nil {
		return drivers.Part{}, err
	}
	return drivers.Part{Number: number, Size: size, Tag: partTag(name, crc), CRC32C: crc}, nil
}

// partTag returns the tag of a part. It identifies the file of one attempt and
// so its bytes, because no file is written twice.
func partTag(name string, crc uint32) string { return fmt.Sprintf("%s-%08x", name, crc) }

// copyBody writes body to f and computes its size and checksum. A body that
// implements io.WriterTo, as those of package upload do, is written without
// another buffer.
func copyBody(ctx context.Context, f *os.File, body io.Reader) (size int64, crc uint32, err error) {
	w := &partWriter{ctx: ctx, f: f}
	_, err = io.Copy(w, body)
	return w.size, w.crc, err
}

// partWriter writes a part's file and computes its size and checksum.
type partWriter struct {
	ctx  context.Context //nolint:containedctx // io.Writer has no parameter for it
	f    *os.File
	size int64
	crc  uint32
	sent int64 // bytes for which writeBack was called
}

func (w *partWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.crc = drivers.UpdateCRC32C(w.crc, p[:n])
	w.size += int64(n)
	if w.size-w.sent >= writeBackStep {
		writeBack(w.f, w.sent, w.size-w.sent)
		w.sent = w.size
	}
	if err == nil {
		err = w.ctx.Err()
	}
	return n, err
}

// Abort deletes the staged entry of the upload. If the file of a part has
// become an object, only its staged name is deleted.
func (s *uploadStore) Abort(ctx context.Context, u drivers.Upload) error {
	dir, ok := uploadDir(u)
	if !ok {
		return nil
	}
	err := ctx.Err()
	if err == nil {
		err = s.disk.removeStaged(dir)
	}
	return failed("abort", u.Key, err)
}

// Uploads returns the uploads in progress, and also the staged files of Create
// and Replace. An old staged file belongs to a process that was killed, and
// Abort deletes it like an upload. The key of a staged file is truncated after
// about 220 bytes.
func (s *uploadStore) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		dir, err := s.disk.root.Open(stagedDir)
		if err != nil {
			yield(drivers.Upload{}, failed("list uploads", prefix, err))
			return
		}
		defer dir.Close()
		for {
			entries, err := dir.ReadDir(256)
			for _, e := range entries {
				u, ok, err := s.staged(e.Name())
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					yield(drivers.Upload{}, failed("list uploads", prefix, err))
					return
				}
				if ok && strings.HasPrefix(u.Key, prefix) && !yield(u, nil) {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(drivers.Upload{}, failed("list uploads", prefix, err))
				return
			}
		}
	}
}

// staged returns the description of a staged file or upload. It returns false
// if the entry is gone.
func (s *uploadStore) staged(name string) (drivers.Upload, bool, error) {
	id, key, _ := strings.Cut(name, ",")
	u := drivers.Upload{Key: strings.ReplaceAll(key, ",", "/"), ID: id}
	dir, ok := uploadDir(u)
	if !ok {
		return drivers.Upload{}, false, nil
	}
	info, err := s.disk.root.Lstat(dir)
	if err == nil && info.IsDir() {
		// The modification time of the directory is that of its newest part.
		var whole []byte
		if whole, err = s.disk.root.ReadFile(dir + keyFile); err == nil && len(whole) > 0 {
			u.Key = string(whole)
			info, err = s.disk.root.Lstat(dir + keyFile)
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil // the process was killed before it wrote the key
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return drivers.Upload{}, false, nil
	}
	if err != nil {
		return drivers.Upload{}, false, err
	}
	u.Started = started(info)
	return u, true, nil
}
