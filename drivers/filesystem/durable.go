package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/berthhq/berth/drivers"
)

// maxTries limits how often a directory is created again after another process
// removed it, and removed again after another process added a file.
const maxTries = 100

// fsync is a variable so that a test can record which files are synced.
var fsync = (*os.File).Sync

// write creates a file, lets fill write to it, and returns once the bytes are
// on disk. The name of the file is not durable until the caller calls syncDirs.
// If write returns an error, there is no file.
func (b *bucket) write(name string, fill func(*os.File) error) (fs.FileInfo, error) {
	f, err := b.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|largeFile, fileMode)
	if err != nil {
		return nil, err
	}
	err = fill(f)
	if err == nil {
		err = fsync(f)
	}
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		b.discard(name)
		return nil, err
	}
	return info, nil
}

// discard deletes a staged file or directory, without reporting errors. If that
// fails, Uploads still lists it, and Abort deletes it later.
func (b *bucket) discard(name string) { _ = b.removeStaged(name) }

// removeStaged deletes a staged file or directory, including files that another
// process adds to it meanwhile.
func (b *bucket) removeStaged(name string) (err error) {
	for range maxTries {
		if err = b.root.RemoveAll(name); !errors.Is(err, fs.ErrExist) { // or ENOTEMPTY
			break
		}
	}
	return err
}

// publish durably links a staged file to key. It returns ErrExists if the key
// is taken, and fs.ErrNotExist if the staged file is gone.
func (b *bucket) publish(ctx context.Context, staged, key string) error {
	dir, made := path.Dir(key), 0
	for range maxTries {
		err := b.root.Link(staged, key)
		switch {
		case err == nil:
			return syncDirs(b.root, dir, made)
		case errors.Is(err, fs.ErrExist):
			// NFS also returns EEXIST for a repeated link if the first
			// response was lost.
			mine, err := b.same(staged, key)
			if err == nil {
				err = syncDirs(b.root, dir, made)
			}
			if err == nil && !mine {
				err = drivers.ErrExists
			}
			return err
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		// Either the staged file or the directory is gone.
		if _, err := b.root.Lstat(staged); err != nil {
			return err
		}
		n, err := makeDir(b.root, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		made = max(made, n)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return fmt.Errorf("directory %s was removed %d times", dir, maxTries)
}

// same reports whether both names are links to the same file.
func (b *bucket) same(staged, key string) (bool, error) {
	ours, err := b.root.Lstat(staged)
	if err != nil {
		return false, err
	}
	there, err := b.root.Lstat(key)
	if absent(err) {
		return false, nil
	}
	return err == nil && os.SameFile(ours, there), err
}

// makeDir creates a directory and its missing parents. It returns how many
// directories it may have created, counted upwards from dir. It returns
// fs.ErrNotExist if a parent is removed meanwhile.
func makeDir(root *os.Root, dir string) (made int, err error) {
	err = root.Mkdir(dir, dirMode)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		if made, err = makeDir(root, path.Dir(dir)); err != nil {
			return made, err
		}
		err = root.Mkdir(dir, dirMode)
	}
	if errors.Is(err, fs.ErrExist) {
		if made > 0 {
			made++
		}
		return made, nil
	}
	return made + 1, err
}

// ensureDir durably creates a directory and its missing parents.
func ensureDir(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	made, err := makeDir(root, dir)
	if err != nil {
		return err
	}
	return syncDirs(root, dir, made)
}

// syncDirs makes changes in dir, and in the given number of directories above
// it, durable. A directory that no longer exists is skipped without being
// counted: another process emptied and removed it, and that change is recorded
// in the directory above.
func syncDirs(root *os.Root, dir string, above int) error {
	for ; ; dir = path.Dir(dir) {
		err := syncDir(root, dir)
		switch {
		case absent(err) && dir != ".":
			continue
		case err != nil || dir == "." || above == 0:
			return err
		}
		above--
	}
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return fsync(f)
}

// prune removes dir and its parents as long as they are empty. It returns the
// first directory that stays: syncing that directory makes all removals
// durable.
func prune(root *os.Root, dir string) string {
	for ; dir != "."; dir = path.Dir(dir) {
		info, err := root.Lstat(dir)
		if err == nil && info.IsDir() { // Remove would also delete an object
			err = root.Remove(dir)
		}
		if err != nil && !absent(err) {
			break
		}
	}
	return dir
}
