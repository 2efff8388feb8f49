package filesystem

import "syscall"

// largeFile lets a 32-bit process open a file of 2 GiB or more and write past
// that offset. os.Open sets it, but os.Root.OpenFile does not. See open(2).
const largeFile = syscall.O_LARGEFILE
