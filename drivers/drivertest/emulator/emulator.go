// Package emulator runs the storage servers that drivers are tested on. Each
// call starts one process on a free port of the loopback interface, with a new
// directory, and kills it when the test ends.
//
// `make test` installs the servers into .tools/bin. A test fails if its server
// is not installed.
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

// command describes how to start a server.
type command struct {
	name  string   // of the program, in .tools/bin or on the PATH
	args  []string //
	env   []string // added to this process's environment
	ready string   // URL that responds once the server is ready

	status int            // expected from ready: 200 if zero
	roots  *x509.CertPool // that verify its certificate
}

// start runs the server that makeCommand describes, given an empty directory
// and a free address, and returns both. It fails the test if the server does
// not become ready.
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

// freeAddr returns an address on which no process listens at the moment. Not every
// server can choose a port and report it.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run starts a server, and kills it at the end of the test.
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
		_ = cmd.Wait() // its error is that the server was killed
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails if the server has ended by itself
		<-exited
		if t.Failed() {
			t.Logf("output of %s:\n%s", c.name, output)
		}
	})
	if err := awaitReady(t.Context(), c, exited); err != nil {
		return fmt.Errorf("%s: %w\n%s", c.name, err, output)
	}
	return nil
}

// awaitReady waits until the server responds.
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
		case <-exited: // another process has taken the port and responds
			return errors.New("the server has exited")
		default:
			if err == nil {
				return nil
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-exited:
			return errors.New("the server has exited")
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s: %w", readyTimeout, err)
		}
	}
}

// find returns the path of a program in the directory where the Makefile
// installs it, or otherwise on the PATH.
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

// output keeps the end of a server's output.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// keptOutput is how many bytes of the output are kept.
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
