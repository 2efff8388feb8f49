//go:build !arm

package filesystem

import (
	"os"
	"syscall"
)

// writeBack has the kernel begin to write n bytes from off to the disk, and
// does not wait. Otherwise it may begin with the fsync at the end, and the last
// byte of a long part is then a wait for them all. Errors come out there. See
// sync_file_range(2).
func writeBack(f *os.File, off, n int64) {
	const write = 2 // SYNC_FILE_RANGE_WRITE
	_ = syscall.SyncFileRange(int(f.Fd()), off, n, write)
}
