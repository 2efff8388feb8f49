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

// withFiles returns the table with a further key after each secret, for the name
// of a file that holds it: storage.azure.sas_file for storage.azure.sas. It adds
// none to a secret with hasFile.
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

// maxSecret is the largest size of a file with a secret, in bytes. No secret is
// that long.
const maxSecret = 64 << 10

// readSecret returns the single line of a file, without the end of the line. Its
// errors name the file, and contain nothing of its content.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path) // first, because opening a pipe may wait forever
	switch {
	case err != nil:
		return "", err
	case info.IsDir():
		return "", fmt.Errorf("%s is a directory, want a file that holds the secret", path)
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
		return "", fmt.Errorf("%s has more than %s, want a secret", path, formatSize(maxSecret))
	}
	if err := checkText(data); err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	switch {
	case secret == "":
		return "", fmt.Errorf("%s is empty", path)
	case strings.ContainsAny(secret, "\r\n"):
		return "", fmt.Errorf("%s has several lines, want one", path)
	case strings.ContainsFunc(secret, unicode.IsControl):
		return "", fmt.Errorf("%s has control characters", path)
	}
	return secret, nil
}

// checkText returns an error unless data is UTF-8 without a byte order mark. Some
// editors write other encodings.
func checkText(data []byte) error {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return errors.New("begins with a byte order mark: save it as UTF-8 without one")
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")), bytes.IndexByte(data, 0) >= 0:
		return errors.New("is not plain text (UTF-16, perhaps): save it as UTF-8")
	case !utf8.Valid(data):
		return errors.New("is not UTF-8")
	}
	return nil
}
