package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the configuration reference into the README")

// TestReference compares the README's list of keys with the table.
func TestReference(t *testing.T) {
	want := reference()
	file := filepath.Join("..", "..", "..", "README.md")
	readme, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- keys -->\n", "<!-- end of keys -->\n"
	before, rest, ok := strings.Cut(string(readme), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("README.md has no %q and %q", begin, end)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("README.md differs from the table; run go test ./cmd/berth/config -update (-want +got):\n%s", diff)
	}
}

// reference returns a table of all keys in Markdown.
func reference() string {
	var table strings.Builder
	table.WriteString("| key | default | what it is |\n|---|---|---|\n")
	for _, k := range keys(sample(anyName)) {
		name := strings.ReplaceAll(k.name, "[0]", "[]")
		def := ""
		if s := k.value.String(); s != "" {
			def = "`" + s + "`"
		}
		help := k.help
		if want := k.value.wants(); strings.HasPrefix(want, "one of ") {
			help += " (" + want + ")"
		}
		if k.flag != "" {
			help += "; `--" + k.flag + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", name, def, help)
	}
	return table.String()
}
