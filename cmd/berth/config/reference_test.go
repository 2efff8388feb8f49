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

var update = flag.Bool("update", false, "write the configuration reference")

// TestReference compares deploy/CONFIGURATION.md with the table.
func TestReference(t *testing.T) {
	want := reference()
	file := filepath.Join("..", "..", "..", "deploy", "CONFIGURATION.md")
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("deploy/CONFIGURATION.md differs from the table; run go test ./cmd/berth/config -run Reference -update (-want +got):\n%s", diff)
	}
}

const aboutReference = "# Configuration reference\n\n" +
	"These are all keys of the configuration, generated from the table that berth reads them by. The\n" +
	"[README](../README.md#configuration) explains files, environment variables and flags, and `berth config` prints the\n" +
	"values in force. The environment variable of a key is `BERTH_` and its name in capitals, with `_` for each dot:\n" +
	"`storage.s3.bucket` is `BERTH_STORAGE_S3_BUCKET`. A `[]` stands for each entry of a list, and `<name>` for each name\n" +
	"that you choose. A default that is empty is not shown.\n"

// reference returns the reference of all keys in Markdown, with a table for each
// section of the file.
func reference() string {
	var doc strings.Builder
	doc.WriteString(aboutReference)
	section := ""
	for _, k := range keys(sample(anyName)) {
		name := strings.ReplaceAll(k.name, "[0]", "[]")
		if strings.HasPrefix(name, "storage.data.") && name != "storage.data.driver" {
			continue // the help of the driver describes them
		}
		if s := sectionOf(name); s != section {
			section = s
			fmt.Fprintf(&doc, "\n## %s\n\n| key | default | what it is |\n|---|---|---|\n", section)
		}
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
		fmt.Fprintf(&doc, "| `%s` | %s | %s |\n", name, def, help)
	}
	return doc.String()
}

// sectionOf returns the heading under which the reference has a key: its section in
// the file, or "listen" for the keys outside any section.
func sectionOf(name string) string {
	section, rest, inSection := strings.Cut(name, ".")
	switch {
	case !inSection:
		return "listen"
	case section == "storage" && strings.Contains(rest, "."):
		section, _, _ = strings.Cut(rest, ".")
		return "storage." + section
	}
	return section
}
