// Package emulator runs the storage servers that drivers are tested on: one
// process for each call, on a free port of the loopback interface, with a
// directory of its own, killed when the test ends.
//
// `make test` installs the servers into .tools/bin. A test that asks for one
// that is not installed fails.
package emulator

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	readyTimeout = 60 * time.Second // a busy machine starts some of them slowly
	startTries   = 3                // another process may take the free port first
)

// command is how to start a server.
type command struct {
	name  string   // of the program, in .tools/bin or on the PATH
	args  []string //
	env   []string // besides this process's own
	ready string   // URL that answers once the server can be used

	status int            // that it answers with: 200 if zero
	roots  *x509.CertPool // that its certificate is checked against
}

// start runs the server that makeCommand describes, given a directory and an
// address that are free, and returns the address. It fails the test if the
// server doesn't get ready.
func start(t testing.TB, makeCommand func(dir, addr string) command) (dir, addr string) {
	t.Helper()
	var failed error
	for range startTries {
		dir, addr = t.TempDir(), freeAddr(t)
		if failed = run(t, makeCommand(dir, addr)); failed == nil {
			return dir, addr
		}
		if errors.Is(failed, exec.ErrNotFound) {
			break
		}
	}
	t.Fatal(failed)
	return "", ""
}

// freeAddr is an address that nothing listens on at the moment. Not every
// server can say which port it took, when it is left to take one.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func run(t testing.TB, c command) error {
	path, err := find(c.name)
	if err != nil {
		return err
	}
	output := new(output)
	cmd := exec.Command(path, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = diesWithUs()
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, as a rule
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-exited
		if t.Failed() {
			t.Logf("%s said:\n%s", c.name, output)
		}
	})
	if err := awaitReady(t.Context(), c, exited); err != nil {
		return fmt.Errorf("%s: %w\n%s", c.name, err, output)
	}
	return nil
}

func awaitReady(ctx context.Context, c command, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: c.roots}}}
	want := cmp.Or(c.status, http.StatusOK)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.ready, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != want {
				err = errors.New(resp.Status)
			}
		}
		select {
		case <-exited: // somebody else answers, who took the port first
			return errors.New("it has exited")
		default:
			if err == nil {
				return nil
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-exited:
			return errors.New("it has exited")
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s: %w", readyTimeout, err)
		}
	}
}

// find looks for a program where the Makefile installs it, and then on the PATH.
func find(name string) (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			if path, err := exec.LookPath(filepath.Join(dir, ".tools", "bin", name)); err == nil {
				return path, nil
			}
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: run `make test`, which installs it", err)
	}
	return path, nil
}

// output keeps the end of what a server writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const keptOutput = 16 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if n := o.text.Len() - keptOutput; n > 0 {
		o.text.Next(n)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(o.text.String())
}
