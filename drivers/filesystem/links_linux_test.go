package filesystem

import (
	"errors"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// TestOpenRefusesARootWithoutHardLinks simulates a file system without hard
// links, because such file systems are rare: with an empty Landlock domain, the
// kernel refuses to let the thread link from one directory to another. See
// landlock(7).
func TestOpenRefusesARootWithoutHardLinks(t *testing.T) {
	root := t.TempDir()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if err = forbidLinks(); err != nil {
			return
		}
		var b *bucket
		if b, err = open(t.Context(), Config{Root: root}, kernel()); err == nil {
			err = errors.Join(errors.New("no error"), b.Close())
		}
	}()
	<-done
	if errors.Is(err, errLandlock) {
		t.Skip("HARD LINKS NOT TESTED: ", err)
	}
	if !errors.Is(err, syscall.EXDEV) || !strings.Contains(err.Error(), "no hard links") || !strings.Contains(err.Error(), "XFS") {
		t.Errorf("Open = %v, want %v with \"no hard links\" and \"XFS\"", err, syscall.EXDEV)
	}
	if got := files(t, root); len(got) > 0 {
		t.Errorf("Open left %q", got)
	}
}

var errLandlock = errors.New("this kernel has no Landlock")

// forbidLinks puts the thread into a Landlock domain.
func forbidLinks() error {
	const (
		createRuleset = 444
		restrictSelf  = 446
		makeSocket    = uint64(1) << 9 // LANDLOCK_ACCESS_FS_MAKE_SOCK: an unused right to drop
		noNewPrivs    = 38             // PR_SET_NO_NEW_PRIVS
	)
	drop := makeSocket
	fd, _, errno := syscall.Syscall(createRuleset, uintptr(unsafe.Pointer(&drop)), unsafe.Sizeof(drop), 0)
	if errno != 0 {
		return errors.Join(errLandlock, errno)
	}
	defer func() { _ = syscall.Close(int(fd)) }()
	if _, _, errno := syscall.Syscall6(syscall.SYS_PRCTL, noNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return errors.Join(errLandlock, errno)
	}
	if _, _, errno := syscall.Syscall(restrictSelf, fd, 0, 0); errno != 0 {
		return errors.Join(errLandlock, errno)
	}
	return nil
}
