package system

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
)

// startTestServer runs a test server until the end of the benchmark, and returns its
// addresses, which it prints first.
func startTestServer(b *testing.B, name string, args []string, env ...string) (pid int, addresses []string) {
	b.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(cleanEnv(), append(env, testServer+"="+name)...)
	stderr := new(ocihttptest.Buffer)
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("test server %s: %v\n%s", name, err, stderr)
		}
	})
	line := make([]byte, 200)
	n, err := stdout.Read(line)
	if err != nil {
		b.Fatalf("test server %s: %v\n%s", name, err, stderr)
	}
	return cmd.Process.Pid, strings.Fields(string(line[:n]))
}

// cpu returns the CPU time that a process has used, in the kernel's ticks of 10 ms
// (proc_pid_stat(5)).
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name of the process may contain spaces
	fields := strings.Fields(rest)
	var ticks int
	for _, s := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// peak returns the peak memory of a process, in bytes (proc_pid_status(5)).
func peak(b testing.TB, pid int) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n << 10
}
