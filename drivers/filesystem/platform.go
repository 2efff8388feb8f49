//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkPlatform returns an error on platforms that the driver does not support.
func checkPlatform() error { return nil }

// tryFlock takes an exclusive flock(2), which belongs to the open file, without
// waiting. It returns false if another open file holds the lock.
func tryFlock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	return err == nil, err
}

// inode returns the file's inode number, in hexadecimal.
func inode(info fs.FileInfo) (string, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("inode number: %w", errors.ErrUnsupported)
	}
	return fmt.Sprintf("%x", stat.Ino), nil
}
