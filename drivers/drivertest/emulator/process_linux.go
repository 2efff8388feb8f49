package emulator

import "syscall"

// diesWithUs makes the kernel kill a server when the test's process ends
// without running its cleanups, as after a panic or a timeout of go test.
func diesWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
