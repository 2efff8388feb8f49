package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// clientScripts are the stories of real clients. Each runs on an empty store.
var clientScripts = filepath.Join("testdata", "client")

// largeClients are the scripts of clients that take minutes to build. `make soak` installs
// these clients.
var largeClients = []string{"buildkit", "cosign", "helm"}

// TestClients runs the scripts in testdata/client with the real binary on a directory.
// The script of crane also runs on every other store. Scripts have these commands
// besides those of TestScript:
//
//	image dir text                 create an OCI image layout; sets $INDEX, the digest of the
//	                               image index, and $IMAGE, that of this machine's image
//	daemon socket command [args]   run a daemon until the script ends; waits for its socket
func TestClients(t *testing.T) {
	t.Parallel()
	for _, s := range clientStores() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			runClients(t, s, func(client string) bool {
				return client == "crane" || s.name == directory && !slices.Contains(largeClients, client)
			})
		})
	}
}

// TestLongClients runs each script on each store, except those of large clients.
func TestLongClients(t *testing.T) {
	skipUnlessLong(t, "every client on every store")
	for _, s := range clientStores() {
		t.Run(s.name, func(t *testing.T) {
			runClients(t, s, func(client string) bool { return !slices.Contains(largeClients, client) })
		})
	}
}

// TestSoakLargeClients runs the scripts of large clients on each store.
func TestSoakLargeClients(t *testing.T) {
	if os.Getenv("BERTH_TEST_SOAK") == "" {
		t.Skip("NOT TESTED: helm, cosign and buildkit; make soak runs them (BERTH_TEST_SOAK=1)")
	}
	for _, s := range clientStores() {
		t.Run(s.name, func(t *testing.T) {
			runClients(t, s, func(client string) bool { return slices.Contains(largeClients, client) })
		})
	}
}

// clientStore is a store that clients are tested on.
type clientStore struct {
	name string

	// start starts the store. Each call of env returns the environment of a berth on
	// an empty bucket.
	start func(t *testing.T) (env func() []string)
}

const directory = "directory"

func clientStores() []clientStore {
	onS3 := func(start func(testing.TB) *emulator.S3) func(t *testing.T) func() []string {
		return func(t *testing.T) func() []string {
			s := start(t)
			return func() []string { return s3Env(t, s) }
		}
	}
	return []clientStore{
		{directory, func(*testing.T) func() []string { return cleanEnv }},
		{"versitygw", onS3(emulator.VersityGW)},
		{"MinIO", onS3(emulator.MinIO)},
		{"GCS", func(t *testing.T) func() []string {
			s := emulator.FakeGCS(t)
			return func() []string { return gcsEnv(t, s) }
		}},
		{"Azure", func(t *testing.T) func() []string {
			s := emulator.Azurite(t)
			return func() []string { return azureEnv(t, s) }
		}},
	}
}

// runClients runs the scripts of these clients, side by side.
func runClients(t *testing.T, s clientStore, clients func(client string) bool) {
	tools := toolsDir(t)
	scripts, err := filepath.Glob(filepath.Join(clientScripts, "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%s has no scripts: %v", clientScripts, err)
	}
	newEnv := s.start(t)
	for _, script := range scripts {
		if !clients(strings.TrimSuffix(filepath.Base(script), ".txtar")) {
			continue
		}
		berthEnv := newEnv()
		testscript.Run(t, testscript.Params{
			Files:               []string{script},
			UpdateScripts:       *update,
			RequireExplicitExec: true,
			Setup: func(env *testscript.Env) error {
				env.Values[serveEnv{}] = berthEnv
				setupScript(env, tools)
				return setupContainers(env, tools)
			},
			Cmds: scriptCommands(map[string]scriptCommand{"image": image, "daemon": daemon}),
			Condition: func(name string) (bool, error) {
				if name != "root" {
					return false, fmt.Errorf("unknown condition %q", name)
				}
				return os.Geteuid() == 0, nil
			},
		})
	}
}

// setupContainers configures podman, buildah and skopeo, which share their files of
// configuration, so that they keep everything in the directory of the script, except the
// cache of blobs that buildah keeps in /var/lib/containers.
func setupContainers(env *testscript.Env, tools string) error {
	dir := filepath.Join(env.WorkDir, ".config", "containers")
	for _, d := range []string{dir, filepath.Join(env.WorkDir, "run")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"policy.json":     `{"default":[{"type":"insecureAcceptAnything"}]}`,
		"registries.conf": "[[registry]]\nlocation = \"127.0.0.1\"\ninsecure = true\n",
		"storage.conf":    "[storage]\ndriver = \"vfs\"\ngraphroot = \"WORK/storage\"\nrunroot = \"WORK/run\"\n",
		"containers.conf": containersConf,
	} {
		text = strings.NewReplacer("WORK", env.WorkDir, "TOOLS", tools).Replace(text)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	env.Setenv("CONTAINERS_CONF", filepath.Join(dir, "containers.conf"))
	env.Setenv("CONTAINERS_STORAGE_CONF", filepath.Join(dir, "storage.conf"))
	env.Setenv("CONTAINERS_REGISTRIES_CONF", filepath.Join(dir, "registries.conf"))
	env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, "run"))
	return nil
}

// containersConf avoids what containers in a container may lack: networks, and the right
// to raise limits. conmon runs podman again when a container has exited.
const containersConf = `
[containers]
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
conmon_path = ["TOOLS/conmon"]
conmon_env_vars = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH=TOOLS/../containers/libraries"]
tmp_dir = "WORK/run/libpod"
[engine.runtimes]
runc = ["TOOLS/runc"]
[network]
network_config_dir = "WORK/networks"
`

func image(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: image dir text")
	}
	l, err := writeLayout(ts.MkAbs(args[0]), args[1]+"\n")
	ts.Check(err)
	ts.Setenv("INDEX", l.index.String())
	ts.Setenv("IMAGE", l.image.String())
}

// daemon runs a daemon in a mount namespace of its own, so that what it mounts is gone
// when it has exited.
func daemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: daemon socket command [args]")
	}
	name := args[1]
	log, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	defer log.Close()
	unshare := append([]string{"--mount", "--propagation", "private", "--"}, args[1:]...)
	cmd := exec.Command("unshare", unshare...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), log, log
	cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"), "HOME="+ts.Getenv("HOME"), "XDG_RUNTIME_DIR="+ts.Getenv("XDG_RUNTIME_DIR"))
	ts.Check(cmd.Start())
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log is printed if the script fails
		close(exited)
	}()
	ts.Defer(func() { stopDaemon(cmd.Process, exited) })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-exited:
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
			continue
		}
		text, _ := os.ReadFile(log.Name())
		ts.Fatalf("%s: %v, but it has not created %s\n%s", name, cmd.ProcessState, args[0], text)
	}
}

// stopDaemon stops a daemon, and kills it if it does not stop.
func stopDaemon(p *os.Process, exited <-chan struct{}) {
	_ = p.Signal(os.Interrupt) // an error means that it has exited
	select {
	case <-exited:
	case <-time.After(10 * time.Second):
		_ = p.Kill()
		<-exited
	}
}
