//go:build !linux

package emulator

import "syscall"

// diesWithUs does nothing, because only Linux can kill the server.
func diesWithUs() *syscall.SysProcAttr { return nil }
