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

// maxTries bounds how often a directory is made again that others remove, and
// removed again that others fill.
const maxTries = 100

// fsync is a variable for the test that looks at what is synced.
var fsync = (*os.File).Sync

// write makes a file of what fill writes to it, and returns once its bytes are
// on disk. Its name is not yet: that takes a syncDirs. If it fails, there is no
// file.
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

// discard removes what nobody waits for: a staged file or directory. If that
// fails, Uploads goes on listing it, and Abort tries again.
func (b *bucket) discard(name string) { _ = b.removeStaged(name) }

// removeStaged removes a staged file or directory, and what others still put
// into it meanwhile.
func (b *bucket) removeStaged(name string) (err error) {
	for range maxTries {
		if err = b.root.RemoveAll(name); !errors.Is(err, fs.ErrExist) { // or ENOTEMPTY
			break
		}
	}
	return err
}

// publish gives a staged file the name of key, durably, unless that is taken:
// ErrExists. If the staged file is gone it reports fs.ErrNotExist.
func (b *bucket) publish(ctx context.Context, staged, key string) error {
	dir, made := path.Dir(key), 0
	for range maxTries {
		err := b.root.Link(staged, key)
		switch {
		case err == nil:
			return syncDirs(b.root, dir, made)
		case errors.Is(err, fs.ErrExist):
			// NFS answers so to a link whose first answer was lost, too.
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
		// Either the staged file is gone, or the directory is.
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

// same says whether both are names of one file.
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

// makeDir makes a directory and those above it that are missing, and says how
// many of them, from dir upwards, it may have made. It reports fs.ErrNotExist
// if one is removed meanwhile.
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

// ensureDir makes a directory, and those above it, durably.
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

// syncDirs makes durable what was changed in dir and in as many directories
// above it. One that is gone was emptied by somebody since, and is passed
// over: what tells of that is in the directory above.
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

// prune removes dir and the directories above it as far as they are empty, and
// returns the first that stays: to sync it makes all of that durable.
func prune(root *os.Root, dir string) string {
	for ; dir != "."; dir = path.Dir(dir) {
		info, err := root.Lstat(dir)
		if err == nil && info.IsDir() { // Remove would take an object as well
			err = root.Remove(dir)
		}
		if err != nil && !absent(err) {
			break
		}
	}
	return dir
}
