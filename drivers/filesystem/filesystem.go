// Package filesystem keeps a bucket in a directory.
//
// Every key is a file, and every "/" in a key is a directory level. Any number
// of processes may share the directory, on one machine or over a network file
// system that has flock(2) and hard links. All paths are resolved below the
// root by [os.Root]: a symbolic link that leads out of the root is refused, and
// List skips symbolic links.
//
// # Layout
//
//	<key>                      an object
//	parts/locks/<xx>           256 lock files, never unlinked
//	parts/staged/<id>,<key>    a file: the body of a Create or Replace in progress
//	parts/staged/<id>,<key>/   a directory: an upload
//	    key                    its whole key; the file's time is the upload's start
//	    <number>-<name>        a part; every attempt has another name
//	    whole-<name>           the file to which a Complete copies the parts
//
// In the names of staged files and directories, "/" is written as ",", which no
// key contains, and names are truncated to 255 bytes.
//
// # Guarantees
//
// An object appears whole, by link(2), which never replaces a file. A Replace
// compares the tag and then renames with rename(2), both under the lock of the
// key's stripe. A Delete takes the same lock. A file never changes once it is
// visible, so a reader keeps reading the version that it opened.
//
// A write returns once it would survive a power failure: the driver syncs the
// file before it gets its name, and then the file's directory and every
// directory above that the write has changed. A caller that receives ErrExists
// or ErrChanged can rely on the stored object being durable as well. If two
// writers meet in a new directory, the writer that did not create it relies on
// fsync(2) of a directory to persist that directory itself, as the journals of
// ext4, XFS, Btrfs and APFS do.
//
// A killed process leaves at most a staged file or upload and one or two empty
// directories. Uploads lists the staged file or upload, and Abort deletes it.
// The next Delete of a key below the empty directories removes them.
//
// # Platforms
//
// The driver works on Linux, macOS and the BSDs. macOS has no
// sync_file_range(2), so the kernel may not start writing a long part to disk
// before it is synced. It also has no copy_file_range(2), so Complete of
// several parts copies them through memory. Names must be case-sensitive, which
// they are not on macOS unless the volume was formatted that way. Files may be
// 2 GiB and larger even in a 32-bit process.
//
// # Tags and times
//
// The tag of a body of at most 1 MiB outside "data/" is its SHA-256. The tag of
// any other body consists of the file's inode, size and modification time. No
// other file gets the same inode while the object exists.
//
// Modified is the modification time that the file system gave the file. An
// upload of one part becomes an object by a link to the part's file, so
// Modified is then the time when that part was stored. Complete does not update
// it: on a network file system that would replace the server's clock by this
// machine's, and it would change the tag during a second Complete. Callers that
// compute the age of objects have to accept earlier times anyway, because S3
// reports the time when the upload started.
package filesystem

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/berthhq/berth/drivers"
)

const (
	locksDir  = "parts/locks"
	stagedDir = "parts/staged"
)

// Config is the location of a bucket.
type Config struct {
	// Root is the directory. Open creates it if it is missing.
	Root string

	// Prefix is a directory below Root that holds the whole bucket. If it is
	// empty, Root itself holds the bucket. A "/" at the end makes no
	// difference.
	Prefix string
}

// Validate returns an error that names the first invalid field. It does not
// access the directory.
func (c Config) Validate() error {
	if c.Root == "" {
		return errors.New("filesystem.Config.Root: name a directory")
	}
	if prefix := c.prefix(); prefix != "." {
		if err := drivers.CheckKey(prefix); err != nil {
			return fmt.Errorf("filesystem.Config.Prefix: %w", err)
		}
	}
	return nil
}

// prefix returns Prefix as a path below Root.
func (c Config) prefix() string { return cmp.Or(strings.TrimSuffix(c.Prefix, "/"), ".") }

// bucket is a directory: the objects in it, and the uploads that will become
// objects.
type bucket struct {
	*objectStore
	*uploadStore
}

var _ drivers.Bucket = (*bucket)(nil)

// Open opens the directory that cfg names and creates it if it is missing. It
// checks the features that the bucket relies on: hard links from one directory
// to another, flock(2), fsync(2) of a directory and case-sensitive names. It
// returns an error if the file system lacks one of them, and on every platform
// except Linux, macOS and the BSDs.
func Open(ctx context.Context, cfg Config) (drivers.Bucket, error) {
	b, err := open(ctx, cfg, kernel())
	if err != nil {
		return nil, fmt.Errorf("filesystem: root %q: %w", cfg.Root, err)
	}
	return b, nil
}

func open(ctx context.Context, cfg Config, sys system) (*bucket, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := checkPlatform(); err != nil {
		return nil, err
	}
	d, err := openDisk(cfg, sys)
	if err != nil {
		return nil, err
	}
	objects := &objectStore{d, &locks{root: d.root, stripes: newStripes()}}
	if err := objects.prepare(ctx); err != nil {
		d.root.Close()
		return nil, err
	}
	return &bucket{objects, &uploadStore{d, objects}}, nil
}

// prepare creates the driver's own directories and checks the features of the
// file system. If the process is killed meanwhile, it leaves staged entries
// like those of any write.
func (s *objectStore) prepare(ctx context.Context) error {
	for _, dir := range []string{locksDir, stagedDir} {
		if err := s.disk.ensureDir(dir); err != nil {
			return err
		}
	}
	unlock, err := s.locks.lock(ctx, "probe")
	if err != nil {
		return fmt.Errorf("flock, which compare-and-swap needs, fails: %w", err)
	}
	unlock()

	dir, link := stagedName(rand.Text(), "probe"), stagedName(rand.Text(), "probe")
	if err := s.disk.root.Mkdir(dir, dirMode); err != nil {
		return err
	}
	defer s.disk.discard(dir)
	file := dir + "/file"
	if _, err := s.disk.write(file, func(*os.File) error { return nil }); err != nil {
		return err
	}
	if err := s.disk.checkCase(dir, "file"); err != nil {
		return err
	}
	if err := s.disk.root.Link(file, link); err != nil {
		return fmt.Errorf("no hard links, which create-only writes need, can be made here; "+
			"use another file system, such as ext4, XFS, Btrfs, ZFS or APFS: %w", err)
	}
	s.disk.discard(link)
	return nil
}

// checkCase returns an error if the file system finds the file of this name by
// its name in upper case as well, because two keys would then be one file.
func (d disk) checkCase(dir, name string) error {
	_, err := d.sys.lstat(d.root, dir+"/"+strings.ToUpper(name))
	switch {
	case err == nil:
		return errors.New("names here are not case-sensitive, so the tags V1 and v1 would be one; " +
			"use a case-sensitive file system (on macOS, a volume of the format APFS (Case-sensitive))")
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// SignGet returns errors.ErrUnsupported, because no server answers URLs of a
// directory.
func (b *bucket) SignGet(context.Context, string, drivers.SignOptions) (drivers.Signed, error) {
	return drivers.Signed{}, fmt.Errorf("filesystem: signed URLs: %w", errors.ErrUnsupported)
}

// Limits returns limits that berth sets, not the file system.
func (b *bucket) Limits() drivers.Limits { return limits() }

func limits() drivers.Limits {
	return drivers.Limits{MaxPart: 5 << 40, MaxParts: 100_000, Stream: true}
}

// Close closes the directory. Open readers stay usable.
func (b *bucket) Close() error { return b.objectStore.disk.root.Close() }

// check returns an error if a key is malformed or ctx has ended.
func check(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := drivers.CheckKey(key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// failed wraps the error of an operation. Running out of file descriptors
// becomes ErrBusy, because it passes by itself. A full disk and a used-up quota
// become ErrFull. A broken disk is neither.
func failed(op, key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		err = fmt.Errorf("%w: %w", drivers.ErrBusy, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = fmt.Errorf("%w: filesystem.Config.Root: make room, or raise the quota: %w", drivers.ErrFull, err)
	}
	return fmt.Errorf("filesystem: %s %s: %w", op, key, err)
}
