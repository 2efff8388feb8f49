package emulator

import "syscall"

// diesWithUs has a server killed also when the test's process ends without its
// cleanups, as it does at a panic and at the end of go test's patience.
func diesWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
