//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// checkPlatform returns an error for this platform. On Windows, file systems
// treat names that differ only in case as one name, have no flock(2), and do
// not flush directories.
func checkPlatform() error {
	return fmt.Errorf("a bucket cannot be a directory on %s, which lacks flock(2) and case-sensitive names; "+
		"use the driver s3, gcs, azure or memory, or run berth on Linux, macOS or a BSD", runtime.GOOS)
}

func tryFlock(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func inode(fs.FileInfo) (string, error) { return "", errors.ErrUnsupported }
