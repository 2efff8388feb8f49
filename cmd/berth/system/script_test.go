package system

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "update the scripts and the README")

// TestScript runs the scripts in testdata/script with the real binary and with the
// clients that `make test` installs. Scripts have these commands besides those of
// testscript:
//
//	berth-start [args]   run `berth serve` on a free port; sets $URL and $HOST
//	berth-stop           send SIGTERM and require a clean exit
//	berth-kill           send SIGKILL
//	berth-log pattern    require a match in the log of a server that has stopped
//	random file size     create a file of random bytes; sets $DIGEST
//	capture name         set $name to the output of the last command
func TestScript(t *testing.T) {
	tools := toolsDir(t)
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Values[serveEnv{}] = cleanEnv()
			setupScript(env, tools)
			return nil
		},
		RequireExplicitExec: true,
		Cmds:                scriptCommands(nil),
	})
}

// setupScript prepares the environment of a script.
func setupScript(env *testscript.Env, tools string) {
	env.Setenv("PATH", buildDir+":"+tools+":"+os.Getenv("PATH"))
	env.Setenv("HOME", env.WorkDir)
	env.Values[running{}] = new(*process)
}

type scriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

// scriptCommands returns the commands of TestScript and others.
func scriptCommands(others map[string]scriptCommand) map[string]scriptCommand {
	commands := map[string]scriptCommand{
		"berth-start": berthStart,
		"berth-stop":  berthStop,
		"berth-kill":  berthKill,
		"berth-log":   berthLog,
		"random":      random,
		"capture":     capture,
	}
	maps.Copy(commands, others)
	return commands
}

// toolsDir returns the directory in which `make test` installs the clients.
func toolsDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "..", ".tools", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"conformance", "crane", "oras", "regctl"} {
		if _, err := os.Stat(filepath.Join(dir, tool)); err != nil {
			t.Fatalf("%v: `make test` installs it", err)
		}
	}
	return dir
}

// running is the key of a script's berth, which is a **process.
type running struct{}

// serveEnv is the key of the environment of a script's berth, which is a []string.
type serveEnv struct{}

func berthOf(ts *testscript.TestScript) **process { return ts.Value(running{}).(**process) }

func berthStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: berth-start [args]")
	}
	p, err := start(ts.MkAbs("."), ts.Value(serveEnv{}).([]string), args...)
	ts.Check(err)
	ts.Defer(p.kill)
	*berthOf(ts) = p
	ts.Setenv("URL", p.url)
	ts.Setenv("HOST", strings.TrimPrefix(p.url, "http://"))
}

func berthStop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: berth-stop")
	}
	ts.Check((*berthOf(ts)).stop())
}

func berthKill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: berth-kill")
	}
	(*berthOf(ts)).kill()
}

func berthLog(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] berth-log pattern")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	log := (*berthOf(ts)).stderr.String()
	if pattern.MatchString(log) == neg {
		ts.Fatalf("berth-log %s: match = %v, want %v\n%s", args[0], neg, !neg, log)
	}
}

func random(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: random file size")
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	digest, err := writeRandom(ts.MkAbs(args[0]), size)
	ts.Check(err)
	ts.Setenv("DIGEST", digest)
}

// writeRandom creates a file of random bytes and returns their digest. Files of
// equal size have equal bytes.
func writeRandom(name string, size int64) (digest string, err error) {
	file, err := os.Create(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	var seed [32]byte
	copy(seed[:], strconv.FormatInt(size, 10))
	hash := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(file, hash), rand.NewChaCha8(seed), size); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), file.Close()
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: capture name")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}
