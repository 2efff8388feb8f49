//go:build !arm

package filesystem

import (
	"os"
	"syscall"
)

// writeBack makes the kernel start writing n bytes from off to disk, without
// waiting for it. Otherwise the kernel may not start before the fsync at the
// end, and the last byte of a long part then waits for all of it. That fsync
// reports the errors. See sync_file_range(2).
func writeBack(f *os.File, off, n int64) {
	const write = 2 // SYNC_FILE_RANGE_WRITE
	_ = syscall.SyncFileRange(int(f.Fd()), off, n, write)
}
