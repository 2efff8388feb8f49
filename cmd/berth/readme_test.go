package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme pastes the README's pushes and pulls into a shell, one after the
// other, with the address of a server of its own.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
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
			t.Errorf("the output has no %q:\n%s", want, out)
		}
	}
}
