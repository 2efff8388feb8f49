//go:build !linux

package emulator

import "syscall"

func diesWithUs() *syscall.SysProcAttr { return nil }
