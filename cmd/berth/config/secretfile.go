package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// withFiles returns the table with a key after each secret for the name of a file
// that holds the secret: storage.azure.sas_file for storage.azure.sas. It adds none
// after a secret with hasFile.
func withFiles(table []key) []key {
	var all []key
	for _, k := range table {
		all = append(all, k)
		if k.secret && !k.hasFile {
			all = append(all, key{
				name:     k.name + "_file",
				value:    text(new(string), ""),
				help:     "file that holds " + k.name,
				secretIn: k.name,
			})
		}
	}
	return all
}

// readSecrets sets secrets from their files, and returns the problems of the
// files.
func readSecrets(table []key) (problems []string) {
	for _, file := range table {
		path := file.value.String()
		if file.secretIn == "" || path == "" {
			continue
		}
		k := &table[slices.IndexFunc(table, func(k key) bool { return k.name == file.secretIn })]
		if k.value.String() != "" {
			problems = append(problems, fmt.Sprintf("%s (%s) and %s (%s): set one of them, not both", k.name, k.origin, file.name, file.origin))
			continue
		}
		text, err := readSecret(path)
		if err == nil && !k.value.set(text) {
			err = fmt.Errorf("%s: want %s", path, k.value.wants())
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s (%s): %v", file.name, file.origin, err))
			continue
		}
		k.origin = file.name
	}
	return problems
}

// maxSecret is the maximum size of a file with a secret, in bytes. All secrets are
// far smaller.
const maxSecret = 64 << 10

// readSecret returns the only line of a file, without the line break. Its errors
// name the file but contain nothing of its content.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path) // before Open, which waits forever for a pipe without a writer
	switch {
	case err != nil:
		return "", err
	case info.IsDir():
		return "", fmt.Errorf("%s is a directory: want a file that holds the secret", path)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxSecret {
		return "", fmt.Errorf("%s is larger than %s, which is too large for a secret", path, formatSize(maxSecret))
	}
	if err := checkText(data); err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	switch {
	case secret == "":
		return "", fmt.Errorf("%s is empty", path)
	case strings.ContainsAny(secret, "\r\n"):
		return "", fmt.Errorf("%s has more than one line", path)
	case strings.ContainsFunc(secret, unicode.IsControl):
		return "", fmt.Errorf("%s has control characters", path)
	}
	return secret, nil
}

// checkText returns an error unless data is UTF-8 without a byte order mark, because
// some editors write other encodings.
func checkText(data []byte) error {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return errors.New("starts with a byte order mark: save it as UTF-8 without one")
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")), bytes.IndexByte(data, 0) >= 0:
		return errors.New("is not plain text, but perhaps UTF-16: save it as UTF-8")
	case !utf8.Valid(data):
		return errors.New("is not UTF-8")
	}
	return nil
}
