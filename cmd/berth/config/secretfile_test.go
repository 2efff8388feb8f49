package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSecretFiles checks that every secret has a key and a variable for a file
// that holds it, and that output does not contain the secrets of files.
func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	env := writeSecrets(t, dir)
	c := mustFill(t, "", env)
	for got, name := range map[string]string{
		c.Storage.S3.SecretAccessKey:     "storage.s3.secret_access_key",
		c.Storage.Azure.ConnectionString: "storage.azure.connection_string",
	} {
		if want := "hush " + name; got != want {
			t.Errorf("the field of %s = %q, want %q", name, got, want)
		}
	}
	for _, k := range c.table {
		switch {
		case k.secret && (k.value.String() != "hush "+k.name || k.origin != k.name+"_file"):
			t.Errorf("%s = %q from %s", k.name, k.value, k.origin)
		case k.secretIn != "" && k.value.String() != filepath.Join(dir, k.secretIn):
			t.Errorf("%s = %q", k.name, k.value)
		}
	}

	// The printed configuration contains no secret, and loads with the same secrets.
	var printed bytes.Buffer
	if err := c.WriteYAML(&printed); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(printed.String(), "hush") || !strings.Contains(printed.String(), "secret_access_key: REDACTED") {
		t.Errorf("WriteYAML wrote secrets:\n%s", &printed)
	}
	unset(t, env)
	if diff := cmp.Diff(c, mustFill(t, printed.String(), nil), ignoreTable()); diff != "" {
		t.Errorf("read back (-first +second):\n%s", diff)
	}
}

// writeSecrets writes a file for each secret, and returns the variables that name
// the files.
func writeSecrets(t *testing.T, dir string) (env []string) {
	t.Helper()
	for _, k := range keys(&Config{}) {
		if !k.secret {
			continue
		}
		file := filepath.Join(dir, k.name)
		if err := os.WriteFile(file, []byte("hush "+k.name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		env = append(env, k.env()+"_FILE="+file)
	}
	return env
}

// TestSecretFileRefused checks the error for each kind of file that cannot hold a
// secret. It must not contain what the file contains.
func TestSecretFileRefused(t *testing.T) {
	dir := t.TempDir()
	const line = "hush"
	for _, tt := range []struct{ name, content, want string }{
		{"none", "", "stat FILE: no such file or directory"},
		{"directory", "", "FILE is a directory: want a file that holds the secret"},
		{"device", "", "FILE is not a regular file"},
		{"empty", "", "FILE is empty"},
		{"newline", "\r\n\n", "FILE is empty"},
		{"lines", line + "\n" + line + "\n", "FILE has more than one line"},
		{"returns", line + "\r" + line, "FILE has more than one line"},
		{"tab", line + "\t" + line, "FILE has control characters"},
		{"large", strings.Repeat(line, maxSecret/4) + "\n", "FILE is larger than 64KiB, which is too large for a secret"},
		{"mark", "\xef\xbb\xbf" + line, "FILE starts with a byte order mark: save it as UTF-8 without one"},
		{"utf-16le", "\xff\xfeh\x00u\x00s\x00h\x00", "FILE is not plain text, but perhaps UTF-16: save it as UTF-8"},
		{"utf-16be", "\xfe\xff\x00h\x00u\x00s\x00h", "FILE is not plain text, but perhaps UTF-16: save it as UTF-8"},
		{"utf-16", "h\x00u\x00s\x00h\x00", "FILE is not plain text, but perhaps UTF-16: save it as UTF-8"},
		{"latin-1", line + "\xe9", "FILE is not UTF-8"},
		{"redacted", "REDACTED\n", "FILE: want the secret itself, not the placeholder that `berth config` prints"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, tt.name)
			switch tt.name {
			case "none":
			case "device":
				path = os.DevNull
			case "directory":
				path = dir
			default:
				if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := loadText(t, "storage: {azure: {sas_file: '"+path+"'}}", nil)
			want := "storage.azure.sas_file (test.yaml:1): " + strings.ReplaceAll(tt.want, "FILE", path)
			if err == nil || err.Error() != want {
				t.Errorf("load = %v, want %s", err, want)
			}
		})
	}
}

// TestSecretGivenTwice checks that a secret and a file for it are an error, so that
// neither silently takes precedence.
func TestSecretGivenTwice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := loadText(t, "storage: {s3: {session_token: whisper}}", []string{"BERTH_STORAGE_S3_SESSION_TOKEN_FILE=" + file})
	want := "storage.s3.session_token (test.yaml:1) and storage.s3.session_token_file (environment BERTH_STORAGE_S3_SESSION_TOKEN_FILE): set one of them, not both"
	if err == nil || err.Error() != want {
		t.Errorf("load = %v, want %s", err, want)
	}
	// An empty secret is not set.
	c, err := loadText(t, "storage: {driver: memory, s3: {session_token: whisper}}", []string{"BERTH_STORAGE_S3_SESSION_TOKEN=", "BERTH_STORAGE_S3_SESSION_TOKEN_FILE=" + file})
	if err != nil || c.Storage.S3.SessionToken != "hush" {
		t.Errorf("load = %v, want the secret of the file", err)
	}
}

// TestSecretOfAFile checks that only the end of a line is trimmed.
func TestSecretOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for _, tt := range []struct{ content, want string }{
		{"hush", "hush"},
		{"hush\n", "hush"},
		{"hush\r\n", "hush"},
		{"hush\n\n", "hush"},
		{" hush = ; \n", " hush = ; "},
		{"hüsh", "hüsh"},
		{strings.Repeat("x", maxSecret), strings.Repeat("x", maxSecret)},
		{strings.Repeat("x", maxSecret-1) + "\n", strings.Repeat("x", maxSecret-1)},
	} {
		if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readSecret(file); got != tt.want || err != nil {
			t.Errorf("readSecret of %.20q = %.20q, %v, want %.20q", tt.content, got, err, tt.want)
		}
	}
}
