package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/berthhq/berth/drivers"
)

// maxTries limits how often a directory is created again after another process
// removed it, and removed again after another process added a file.
const maxTries = 100

// Only the owner can read directories and files, because one of the objects is
// the key that signs upload tokens.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// disk is the directory of a bucket. Its methods take paths below root.
type disk struct {
	root *os.Root // Config.Root with Config.Prefix
	sys  system
}

// system holds the system calls that tests replace.
type system struct {
	fsync func(*os.File) error
	lstat func(*os.Root, string) (fs.FileInfo, error)
}

// kernel returns the system calls of the operating system.
func kernel() system { return system{(*os.File).Sync, (*os.Root).Lstat} }

// openDisk durably creates the directory of cfg, with its missing parents, and
// opens it.
func openDisk(cfg Config, sys system) (disk, error) {
	if err := makeRoot(filepath.Clean(cfg.Root), sys); err != nil {
		return disk{}, err
	}
	root, err := os.OpenRoot(cfg.Root)
	if err != nil {
		return disk{}, err
	}
	defer root.Close()
	top := disk{root, sys}
	if err := top.ensureDir(cfg.prefix()); err != nil {
		return disk{}, err
	}
	below, err := root.OpenRoot(cfg.prefix())
	return disk{below, sys}, err
}

// makeRoot durably creates a directory and its missing parents.
func makeRoot(dir string, sys system) error {
	err := os.Mkdir(dir, dirMode)
	parent := filepath.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeRoot(parent, sys); err != nil {
			return err
		}
		err = os.Mkdir(dir, dirMode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	above, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer above.Close()
	return sys.fsync(above)
}

// openRead opens a file of any size for reading.
func (d disk) openRead(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_RDONLY|largeFile, 0)
}

// write creates a file, lets fill write to it, and returns once the bytes are
// on disk. The name of the file is not durable until the caller calls syncDirs.
// If write returns an error, there is no file.
func (d disk) write(name string, fill func(*os.File) error) (fs.FileInfo, error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|largeFile, fileMode)
	if err != nil {
		return nil, err
	}
	err = fill(f)
	if err == nil {
		err = d.sys.fsync(f)
	}
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		d.discard(name)
		return nil, err
	}
	return info, nil
}

// discard deletes a staged file or directory, without reporting errors. If that
// fails, Uploads still lists it, and Abort deletes it later.
func (d disk) discard(name string) { _ = d.removeStaged(name) }

// removeStaged deletes a staged file or directory, including files that another
// process adds to it meanwhile.
func (d disk) removeStaged(name string) (err error) {
	for range maxTries {
		if err = d.root.RemoveAll(name); !errors.Is(err, fs.ErrExist) { // or ENOTEMPTY
			break
		}
	}
	return err
}

// publish durably links a staged file to key. It returns ErrExists if the key
// is taken, and fs.ErrNotExist if the staged file is gone.
func (d disk) publish(ctx context.Context, staged, key string) error {
	dir, made := path.Dir(key), 0
	for range maxTries {
		err := d.root.Link(staged, key)
		switch {
		case err == nil:
			return d.syncDirs(dir, made)
		case errors.Is(err, fs.ErrExist):
			// NFS also returns EEXIST for a repeated link if the first
			// response was lost.
			mine, err := d.sameFile(staged, key)
			if err == nil {
				err = d.syncDirs(dir, made)
			}
			if err == nil && !mine {
				err = drivers.ErrExists
			}
			return err
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		// Either the staged file or the directory is gone.
		if _, err := d.root.Lstat(staged); err != nil {
			return err
		}
		n, err := d.makeDir(dir)
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

// sameFile reports whether both names are links to the same file.
func (d disk) sameFile(staged, key string) (bool, error) {
	ours, err := d.root.Lstat(staged)
	if err != nil {
		return false, err
	}
	existing, err := d.root.Lstat(key)
	if absent(err) {
		return false, nil
	}
	return err == nil && os.SameFile(ours, existing), err
}

// makeDir creates a directory and its missing parents. It returns how many
// directories it may have created, counted upwards from dir. It returns
// fs.ErrNotExist if a parent is removed meanwhile.
func (d disk) makeDir(dir string) (made int, err error) {
	err = d.root.Mkdir(dir, dirMode)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		if made, err = d.makeDir(path.Dir(dir)); err != nil {
			return made, err
		}
		err = d.root.Mkdir(dir, dirMode)
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
func (d disk) ensureDir(dir string) error {
	if dir == "." {
		return nil
	}
	made, err := d.makeDir(dir)
	if err != nil {
		return err
	}
	return d.syncDirs(dir, made)
}

// syncDirs makes changes in dir, and in the given number of directories above
// it, durable. A directory that no longer exists is skipped without being
// counted: another process emptied and removed it, and that change is recorded
// in the directory above.
func (d disk) syncDirs(dir string, above int) error {
	for ; ; dir = path.Dir(dir) {
		err := d.syncDir(dir)
		switch {
		case absent(err) && dir != ".":
			continue
		case err != nil || dir == "." || above == 0:
			return err
		}
		above--
	}
}

func (d disk) syncDir(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return d.sys.fsync(f)
}

// prune removes dir and its parents as long as they are empty. It returns the
// first directory that stays: syncing that directory makes all removals
// durable.
func (d disk) prune(dir string) string {
	for ; dir != "."; dir = path.Dir(dir) {
		info, err := d.root.Lstat(dir)
		if err == nil && info.IsDir() { // Remove would also delete an object
			err = d.root.Remove(dir)
		}
		if err != nil && !absent(err) {
			break
		}
	}
	return dir
}

// notFound returns the error for an absent path. It is ErrNotFound unless the
// whole bucket was removed, because that does not mean that the key was deleted.
func (d disk) notFound() error {
	if _, err := d.root.Lstat(locksDir); err != nil {
		return fmt.Errorf("the directory was removed or emptied: %w", err)
	}
	return drivers.ErrNotFound
}

// absent reports whether err means that there is no file at a path, either
// because a name is missing or because a parent is not a directory.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
