package system

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long tests wait for what should take a moment.
const patience = time.Minute

// buildDir has the berth that the tests run: the real binary, with the race
// detector where the tests have it.
var buildDir string

func TestMain(m *testing.M) {
	if name := os.Getenv(testServer); name != "" {
		if err := serveForTest(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "berth-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	buildDir = dir
	args := append([]string{"build", "-o", filepath.Join(dir, "berth")}, buildFlags()...)
	build := exec.Command("go", append(args, "github.com/berthhq/berth/cmd/berth")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "go build:", err)
		return 1
	}
	return m.Run()
}

// buildFlags are those that this test was built with, for a berth like it.
func buildFlags() []string {
	var flags []string
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, s := range info.Settings {
		if s.Key == "-race" || s.Key == "-tags" {
			flags = append(flags, s.Key+"="+s.Value)
		}
	}
	return flags
}

// cleanEnv is the environment without what would configure berth.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "BERTH_") })
}

// process is a running `berth serve`.
type process struct {
	cmd    *exec.Cmd
	url    string       // http://127.0.0.1:port
	client *http.Client // of this process alone
	stdout lockedBuffer
	stderr lockedBuffer
	exited chan struct{} // closed when it has
}

// start runs `berth serve` with these arguments on a free port, and waits until
// it serves.
func start(dir string, env []string, args ...string) (*process, error) {
	p := &process{client: &http.Client{Transport: ownTransport()}, exited: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(buildDir, "berth"), append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // its outcome is in ProcessState
		close(p.exited)
	}()
	serving := regexp.MustCompile(`(?m)^berth serves (http://\S+) from .+\n`)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if m := serving.FindStringSubmatch(p.stdout.String()); m != nil {
			p.url = m[1]
			return p, nil
		}
		select {
		case <-p.exited:
			return nil, fmt.Errorf("berth serve: %v\n%s%s", p.cmd.ProcessState, &p.stdout, &p.stderr)
		default:
		}
	}
	p.kill()
	return nil, fmt.Errorf("berth serve did not say where it serves\n%s%s", &p.stdout, &p.stderr)
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	<-p.exited
}

func (p *process) isDead() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// stop asks the process to end, and reports it if it does not do so well.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%w\n%s", err, &p.stderr)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("berth serve goes on after SIGTERM\n%s", &p.stderr)
	}
	if !p.cmd.ProcessState.Success() || strings.Contains(p.stderr.String(), "DATA RACE") {
		return fmt.Errorf("berth serve: %v\n%s", p.cmd.ProcessState, &p.stderr)
	}
	return nil
}

// serving runs berth on the directory root until the end of the test, or until
// the test ends it.
func serving(t *testing.T, root string, env ...string) *process {
	t.Helper()
	p, err := start(t.TempDir(), append(cleanEnv(), env...), "--root", root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !p.isDead() {
			if err := p.stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

// lockedBuffer is a buffer that is written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
