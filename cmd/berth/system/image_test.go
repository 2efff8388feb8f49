package system

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestSoakImage builds the image of deploy/docker and runs it, by the script in
// testdata/image. The build compiles everything again, which takes five minutes of CPU.
func TestSoakImage(t *testing.T) {
	if os.Getenv("BERTH_TEST_SOAK") == "" {
		t.Skip("NOT TESTED: the image, built by buildah and run by podman; make soak runs it (BERTH_TEST_SOAK=1)")
	}
	tools := toolsDir(t)
	source, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	dirs := strings.Fields(string(out))
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "image"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			setupScript(env, tools)
			env.Setenv("GOROOT", dirs[0])
			env.Setenv("GOMODCACHE", dirs[1])
			env.Setenv("GOCACHE", dirs[2])
			env.Setenv("GOARCH", runtime.GOARCH)
			env.Setenv("SOURCE", source)
			env.Setenv("CERTIFICATES", "/etc/ssl/certs/ca-certificates.crt")
			port, err := freePort()
			if err != nil {
				return err
			}
			env.Setenv("PORT", strconv.Itoa(port))
			return setupContainers(env, tools)
		},
		Cmds:      scriptCommands(map[string]scriptCommand{"image": image}),
		Condition: func(string) (bool, error) { return os.Geteuid() == 0, nil }, // [root]
	})
}

// freePort returns a port of loopback on which nothing listened just now. A container
// cannot report a port that it chose by itself.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
