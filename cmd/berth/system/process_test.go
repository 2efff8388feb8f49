package system

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
)

// patience is how long tests wait for events that should happen immediately.
const patience = time.Minute

// buildDir is the directory of the berth binary that the tests run. It has the
// race detector if the tests have it.
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

// buildFlags returns the flags -race and -tags that this test was built with.
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

// cleanEnv returns the environment without variables that configure berth.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "BERTH_") })
}

// process is a running `berth serve`.
type process struct {
	cmd    *exec.Cmd
	url    string       // http://127.0.0.1:port
	client *http.Client // only for this process
	stdout ocihttptest.Buffer
	stderr ocihttptest.Buffer
	exited chan struct{} // closed when the process has exited
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
		_ = p.cmd.Wait() // ProcessState has the result
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
	return nil, fmt.Errorf("berth serve did not print its address within %v\n%s%s", patience, &p.stdout, &p.stderr)
}

// kill kills the process with SIGKILL and waits until it has exited.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means that it has exited
	<-p.exited
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// stop stops the process with SIGTERM. It returns an error if the process fails,
// takes too long, or has reported a data race.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%w\n%s", err, &p.stderr)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("berth serve is still running %v after SIGTERM\n%s", patience, &p.stderr)
	}
	if !p.cmd.ProcessState.Success() || strings.Contains(p.stderr.String(), "DATA RACE") {
		return fmt.Errorf("berth serve: %v\n%s", p.cmd.ProcessState, &p.stderr)
	}
	return nil
}

// serving runs berth on the directory root until the end of the test, unless the
// test stops it earlier.
func serving(t *testing.T, root string, env ...string) *process {
	t.Helper()
	p, err := start(t.TempDir(), append(cleanEnv(), env...), "--root", root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !p.hasExited() {
			if err := p.stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

// skipUnlessLong skips a test unless BERTH_TEST_LONG is set, as in `make test-long`.
// what describes the test.
func skipUnlessLong(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skipf("NOT TESTED: %s; make test-long runs it (BERTH_TEST_LONG=1)", what)
	}
}
