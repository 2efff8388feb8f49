package system

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestShutdownLetsRequestsFinish sends SIGTERM in the middle of a PATCH. The server
// accepts no more connections, answers the PATCH, and exits.
func TestShutdownLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	root, data := t.TempDir(), randomBytes(2, 1<<20)
	p := serving(t, root)
	location := startUpload(t, p)
	body := stall(data)
	var wg sync.WaitGroup
	wg.Go(func() {
		a, err := request(t.Context(), p, http.MethodPatch, location, body)
		if err != nil || a.status != http.StatusAccepted {
			t.Errorf("PATCH = %d %s, %v, want 202", a.status, a.body, err)
		}
	})
	<-body.stalled
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	untilRefused(t, p)
	close(body.released)
	wg.Wait()
	wantExit(t, p)

	if _, offset := status(t, serving(t, root), location); offset != len(data) {
		t.Errorf("offset = %d, want %d", offset, len(data))
	}
}

// TestShutdownCutsOffUploads sends SIGTERM in the middle of a PATCH that does not
// end. The server cuts off the client and keeps the bytes that it has sent.
func TestShutdownCutsOffUploads(t *testing.T) {
	t.Parallel()
	root, data := t.TempDir(), randomBytes(3, 1<<20)
	p := serving(t, root, "BERTH_LIMITS_SHUTDOWN=1s")
	location := startUpload(t, p)
	body := stall(data)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = request(t.Context(), p, http.MethodPatch, location, body) // with or without a response
	})
	<-body.stalled
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wantExit(t, p)
	close(body.released)
	wg.Wait()

	if _, offset := status(t, serving(t, root), location); offset != len(data) {
		t.Errorf("offset = %d, want %d", offset, len(data))
	}
}

// untilRefused waits until the server accepts no more connections.
func untilRefused(t *testing.T, p *process) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			return
		}
		c.Close()
	}
	t.Fatal("the server still accepts connections")
}

// wantExit waits until the server exits, and requires that it exits with 0.
func wantExit(t *testing.T, p *process) {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("the server is still running after %v\n%s", patience, &p.stderr)
	}
	if !p.cmd.ProcessState.Success() {
		t.Errorf("the server exited with %v, want 0\n%s", p.cmd.ProcessState, &p.stderr)
	}
}
