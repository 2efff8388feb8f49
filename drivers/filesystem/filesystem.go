// Package filesystem keeps a bucket in a directory.
//
// Every key is a file, every "/" in it a directory. Any number of processes may
// share the directory, on one machine or over a network file system that has
// flock(2) and hard links. All paths are resolved below the root by [os.Root]:
// a symbolic link that leads out of it is refused, and List passes over
// symbolic links.
//
// # Layout
//
//	<key>                      an object
//	parts/locks/<xx>           256 lock files, never unlinked
//	parts/staged/<id>,<key>    a file: the body of a Create or Replace under way
//	parts/staged/<id>,<key>/   a directory: an upload
//	    key                    its whole key; the file's time is the upload's start
//	    <number>-<name>        a part; every attempt has a name of its own
//	    whole-<name>           what a Complete is copying
//
// In the names of staged files and directories "/" is written ",", which no key
// has, and what is past 255 bytes is cut off.
//
// # What holds
//
// An object appears whole, by link(2), which never replaces one. A Replace is a
// rename(2) under the lock of the key's stripe, once the tag was compared; a
// Delete takes the same lock. A file never changes once it can be seen, so that
// a reader goes on with the version it began with.
//
// A write returns once it would survive a power failure: the file was fsynced
// before it got its name, and then its directory and every directory above
// that the write has changed. Whoever is told ErrExists or ErrChanged may rely
// on what is there to stay, too. Where two writers meet in a new directory,
// the one that did not make it relies on fsync(2) of a directory to keep that
// directory itself, as the journals of ext4, XFS, Btrfs and APFS do.
//
// A process that is killed leaves at most a staged file or upload, which
// Uploads lists, whichever it is, and Abort removes, and an empty directory or
// two, which the next Delete of a key below removes.
//
// # Platforms
//
// The driver works on Linux, macOS and the BSDs. macOS has no
// sync_file_range(2), so that a long part is on its way to the disk only when
// it is synced, and no copy_file_range(2), so that Complete of several parts
// copies them through memory. Names must be case-sensitive, which they are not
// on macOS unless the volume was formatted so. Files may have 2 GiB and more in
// a 32-bit process, too.
//
// # Tags and times
//
// The tag of a body of at most 1 MiB outside "data/" is its SHA-256; of any
// other it is made of the file's inode, size and modification time, which are
// not taken again while the object is there.
//
// Modified is the modification time that the file system gave the file. An
// upload of one part becomes an object by a link to the part's file, so that
// Modified is the time when that part was stored. Complete does not renew it:
// on a network file system that would put this machine's clock in place of the
// server's, and it would change the tag under a second Complete. Whoever ages
// objects has to bear older times anyway, since S3 gives the time when the
// upload began.
package filesystem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/berthhq/berth/drivers"
)

const (
	locksDir  = "parts/locks"
	stagedDir = "parts/staged"
)

// Directories and files are the owner's alone: one of them is the key that
// signs upload tokens.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Config names the directory of a bucket.
type Config struct {
	// Root is the directory. It is made if it is not there.
	Root string

	// Prefix is a directory below Root that holds all that the bucket holds,
	// or empty for Root itself. A "/" at its end makes no difference.
	Prefix string
}

// bucket is a directory. Its methods take keys, and hand paths to root.
type bucket struct {
	root    *os.Root // Config.Root with Config.Prefix
	stripes stripes
}

var _ drivers.Bucket = (*bucket)(nil)

// Open opens the directory that cfg names, creates it if it is missing, and
// tries what the bucket relies on: hard links from one directory to another,
// flock(2), fsync(2) of a directory and case-sensitive names. It refuses a file
// system that lacks one of them, and every platform but Linux, macOS and the
// BSDs.
func Open(ctx context.Context, cfg Config) (drivers.Bucket, error) {
	b, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("filesystem: root %q: %w", cfg.Root, err)
	}
	return b, nil
}

func open(ctx context.Context, cfg Config) (*bucket, error) {
	if cfg.Root == "" {
		return nil, errors.New("name a directory")
	}
	if err := checkPlatform(); err != nil {
		return nil, err
	}
	prefix := strings.TrimSuffix(cfg.Prefix, "/")
	if prefix == "" {
		prefix = "."
	} else if err := drivers.CheckKey(prefix); err != nil {
		return nil, fmt.Errorf("prefix: %w", err)
	}
	if err := makeRoot(filepath.Clean(cfg.Root)); err != nil {
		return nil, err
	}
	top, err := os.OpenRoot(cfg.Root)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	if err := ensureDir(top, prefix); err != nil {
		return nil, err
	}
	root, err := top.OpenRoot(prefix)
	if err != nil {
		return nil, err
	}
	b := &bucket{root: root, stripes: newStripes()}
	if err := b.prepare(ctx); err != nil {
		root.Close()
		return nil, err
	}
	return b, nil
}

// makeRoot makes a directory and those above it, durably.
func makeRoot(dir string) error {
	err := os.Mkdir(dir, dirMode)
	parent := filepath.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeRoot(parent); err != nil {
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
	return fsync(above)
}

// prepare makes the driver's own directories and tries the file system out. If
// it is killed, what it leaves are staged entries like any others.
func (b *bucket) prepare(ctx context.Context) error {
	for _, dir := range []string{locksDir, stagedDir} {
		if err := ensureDir(b.root, dir); err != nil {
			return err
		}
	}
	unlock, err := b.lock(ctx, "probe")
	if err != nil {
		return fmt.Errorf("flock, which compare-and-swap needs, fails: %w", err)
	}
	unlock()

	dir, link := stagedName(rand.Text(), "probe"), stagedName(rand.Text(), "probe")
	if err := b.root.Mkdir(dir, dirMode); err != nil {
		return err
	}
	defer b.discard(dir)
	file := dir + "/file"
	if _, err := b.write(file, func(*os.File) error { return nil }); err != nil {
		return err
	}
	if err := b.checkCase(dir, "file"); err != nil {
		return err
	}
	if err := b.root.Link(file, link); err != nil {
		return fmt.Errorf("no hard links, which create-only writes need, can be made here; "+
			"use another file system, such as ext4, XFS, Btrfs, ZFS or APFS: %w", err)
	}
	b.discard(link)
	return nil
}

// lstat is a variable for the test of a file system that folds case.
var lstat = (*os.Root).Lstat

// checkCase refuses a file system that finds the file of this name by the name
// in capitals, too: two keys would be one.
func (b *bucket) checkCase(dir, name string) error {
	_, err := lstat(b.root, dir+"/"+strings.ToUpper(name))
	switch {
	case err == nil:
		return errors.New("names here are not case-sensitive, and the tags V1 and v1, which are two, would be one; " +
			"use a case-sensitive file system (on macOS, a volume of the format APFS (Case-sensitive))")
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// SignGet reports errors.ErrUnsupported: nobody serves a directory.
func (b *bucket) SignGet(context.Context, string, drivers.SignOptions) (drivers.Signed, error) {
	return drivers.Signed{}, fmt.Errorf("filesystem: signed URLs: %w", errors.ErrUnsupported)
}

// Limits are berth's own rather than the file system's.
func (b *bucket) Limits() drivers.Limits {
	return drivers.Limits{MaxPart: 5 << 40, MaxParts: 100_000, Stream: true}
}

// Close closes the directory. Readers that are open stay so.
func (b *bucket) Close() error { return b.root.Close() }

// check looks at what every call has to look at.
func check(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := drivers.CheckKey(key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// failed wraps the error of an operation. Only running out of file descriptors
// is ErrBusy, because it passes by itself. A full disk and a quota that is used
// up are ErrFull. A broken disk is neither.
func failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		err = fmt.Errorf("%w: %w", drivers.ErrBusy, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = fmt.Errorf("%w: storage.filesystem.root: make room, or raise the quota: %w", drivers.ErrFull, err)
	}
	return fmt.Errorf("filesystem: %s %s: %w", op, key, err)
}

// absent says whether err means that there is no file at a path, be it that a
// directory on the way is none.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// notFound is the error for a path that is absent: ErrNotFound, unless the
// whole bucket was taken away, about which nobody asked.
func (b *bucket) notFound() error {
	if _, err := b.root.Lstat(locksDir); err != nil {
		return fmt.Errorf("the directory was removed or emptied: %w", err)
	}
	return drivers.ErrNotFound
}
