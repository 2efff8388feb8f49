package filesystem

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// onFullDisk is the environment variable with the directory for the process in
// which TestLongFullDisk mounts a file system.
const onFullDisk = "BERTH_TEST_FULL_DISK"

// TestLongFullDisk fills a file system of 1 MiB. A separate process mounts it,
// which is possible if user namespaces are allowed.
func TestLongFullDisk(t *testing.T) {
	if dir := os.Getenv(onFullDisk); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		fillDisk(t, dir)
		return
	}
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("mounts a file system in a user namespace: set BERTH_TEST_LONG=1 (or run make test-long)")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLongFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), onFullDisk+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	output, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("FULL DISK NOT TESTED: no user namespaces here: %v", err)
	}
	if err != nil || !bytes.Contains(output, []byte("--- PASS: TestLongFullDisk")) {
		t.Errorf("%v\n%s", err, output)
	}
}

// fillDisk fills the disk, and checks that deletions make room.
func fillDisk(t *testing.T, dir string) {
	b, err := Open(t.Context(), Config{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	content := bytes.Repeat([]byte("x"), 100<<10)
	var keys []string
	for err == nil && len(keys) < 100 {
		key := fmt.Sprintf("blobs/%d", len(keys))
		if _, err = b.Create(t.Context(), key, drivers.NewBody(content)); err == nil {
			keys = append(keys, key)
		}
	}
	if !errors.Is(err, drivers.ErrFull) || len(keys) < 5 {
		t.Fatalf("Create after %d objects = %v, want %v after at least 5", len(keys), err, drivers.ErrFull)
	}
	u, err := b.StartUpload(t.Context(), "data/new/00/x")
	if err == nil {
		_, err = b.StreamPart(t.Context(), u, 1, bytes.NewReader(content))
	}
	if !errors.Is(err, drivers.ErrFull) {
		t.Errorf("StreamPart = %v, want %v", err, drivers.ErrFull)
	}
	if err := b.Delete(t.Context(), keys...); err != nil {
		t.Errorf("Delete on a full disk = %v", err)
	}
	if _, err := b.Create(t.Context(), "blobs/again", drivers.NewBody(content)); err != nil {
		t.Errorf("Create after Delete = %v", err)
	}
}
