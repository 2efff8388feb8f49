package config

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// FuzzFile loads arbitrary files. An accepted configuration can be printed, and
// loads with the same values again.
func FuzzFile(f *testing.F) {
	f.Add("listen: 127.0.0.1:5000\nstorage:\n  driver: s3\n  s3: {bucket: b, secret_access_key: 's'}\n")
	f.Add("redirect:\n  cdn: {edge: {kind: nginx, base_url: https://x}}\n  rules:\n  - from: [10.0.0.0/8]\n    target: cdn:edge\n")
	f.Add("a: &a [*a]\n")
	f.Add("? {a: b}\n: c\n---\n")
	f.Add("redirect: {rules: [{target: presign}, [x], y], cdn: {0: {}, \"\": {}}}")
	f.Add("storage: {filesystem: {root: \"a # b\\u00e9 \"}}\nstorage: !!binary aGVsbG8=\n")
	f.Fuzz(func(t *testing.T, file string) {
		given, err := parseYAML([]byte(file))
		if err != nil {
			return
		}
		c, err := load("fuzz.yaml", given, pflag.NewFlagSet("fuzz", pflag.ContinueOnError))
		if err != nil {
			return
		}
		var printed bytes.Buffer
		if err := (&Config{table: shown(c.table)}).WriteYAML(&printed); err != nil {
			t.Fatal(err)
		}
		again, err := parseYAML(printed.Bytes())
		if err != nil {
			t.Fatalf("parseYAML of what was printed: %v\n%s", err, &printed)
		}
		back, err := load("fuzz.yaml", again, pflag.NewFlagSet("fuzz", pflag.ContinueOnError))
		if err != nil {
			t.Fatalf("load of what was printed: %v\n%s", err, &printed)
		}
		if diff := cmp.Diff(c, back, ignoreTable()); diff != "" {
			t.Errorf("read back (-first +second):\n%s\n%s", diff, &printed)
		}
	})
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"0", "1", "16MiB", "9223372036854775807", "8388608TiB", "-1", "1.5GiB", "MiB", "1 KiB", "16MB", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := ParseSize(s)
		if !ok {
			return
		}
		if back, ok := ParseSize(formatSize(n)); n < 0 || !ok || back != n {
			t.Errorf("ParseSize(%q) = %d, written %s, read back %d, %v", s, n, formatSize(n), back, ok)
		}
	})
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"0", "20m", "144h", "1h0m30s", "-1s", "1.5h", "1µs", "9223372036854775807ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return
		}
		if back, err := time.ParseDuration(formatDuration(d)); err != nil || back != d {
			t.Errorf("%q is %v, written %s, read back %v, %v", s, d, formatDuration(d), back, err)
		}
	})
}

func TestParseSize(t *testing.T) {
	tests := []struct {
		text string
		want int64
		ok   bool
	}{
		{"0", 0, true}, {"1", 1, true}, {"5B", 5, true}, {"16KiB", 16 << 10, true}, {"16MiB", 16 << 20, true},
		{"3GiB", 3 << 30, true}, {"2TiB", 2 << 40, true}, {"8191PiB", 8191 << 50, true}, {"8192PiB", 0, false},
		{"", 0, false}, {"MiB", 0, false}, {"-1", 0, false}, {"1.5GiB", 0, false}, {"16MB", 0, false}, {"16mib", 0, false},
		{"1 MiB", 0, false}, {"0x10", 0, false}, {"1_000", 0, false}, {"9223372036854775808", 0, false},
	}
	for _, tt := range tests {
		if got, ok := ParseSize(tt.text); ok != tt.ok || ok && got != tt.want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d, %v", tt.text, got, ok, tt.want, tt.ok)
		}
	}
}

func TestFormat(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1: "1", 1023: "1023", 1024: "1KiB", 1536: "1536", 3 << 29: "1536MiB", 1 << 60: "1024PiB"} {
		if got := formatSize(n); got != want {
			t.Errorf("formatSize(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", time.Second: "1s", 10 * time.Second: "10s", 20 * time.Minute: "20m",
		144 * time.Hour: "144h", 90 * time.Second: "1m30s", 90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%d) = %s, want %s", d, got, want)
		}
	}
}
