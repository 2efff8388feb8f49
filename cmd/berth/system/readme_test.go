package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/berthhq/berth/cmd/berth/config"
)

// TestReadmeConfigs loads each configuration in the README. There must be some for each
// cloud.
func TestReadmeConfigs(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	drivers := map[string]int{}
	for i, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("%d.yaml", i))
		if err := os.WriteFile(file, []byte(block[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := pflag.NewFlagSet("berth", pflag.ContinueOnError)
		config.Flags(flags)
		c, err := config.Load(file, flags)
		if err != nil {
			t.Errorf("%v\n%s", err, block[1])
			continue
		}
		drivers[c.Storage.Driver]++
	}
	for driver, want := range map[string]int{"s3": 2, "gcs": 1, "azure": 1} {
		if drivers[driver] < want {
			t.Errorf("%d configurations with driver %s, want at least %d", drivers[driver], driver, want)
		}
	}
}

// TestReadme runs the pushes and pulls of the README in a shell, with the address of
// the test's server.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := serving(t, t.TempDir())
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(block[1], "curl") || strings.Contains(block[1], "oras") {
			script.WriteString(strings.ReplaceAll(block[1], "127.0.0.1:5000", strings.TrimPrefix(p.url, "http://")))
		}
	}
	shell := exec.Command("bash", "-euxo", "pipefail", "-c", script.String())
	shell.Dir = t.TempDir()
	shell.Env = append(cleanEnv(), "HOME="+shell.Dir, "PATH="+toolsDir(t)+":"+os.Getenv("PATH"))
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"pulled sha256:", "Pushed:", "Range: 0-3999999", "204 No Content"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output does not contain %q:\n%s", want, out)
		}
	}
}
