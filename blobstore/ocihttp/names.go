package ocihttp

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/access"
)

// maxName is the length in bytes of the longest name of a repository. Names are
// part of keys in the bucket.
const maxName = 255

// repository is the name of a repository.
type repository string

var _ reference.Named = repository("")

// Name returns the name.
func (r repository) Name() string { return string(r) }

// String returns the name.
func (r repository) String() string { return string(r) }

func (r repository) access(actions ...access.Action) access.Access {
	return access.Access{Repository: string(r), Actions: actions}
}

// parseName parses the name of a repository as the specification defines it:
// segments that match [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, separated by slashes
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests).
// Package reference would also accept a host and port as the first segment.
func parseName(segments []string) (repository, error) {
	name := strings.Join(segments, "/")
	if len(name) > maxName {
		return "", badName(name, "longer than 255 bytes")
	}
	for _, s := range segments {
		if !isNameSegment(s) {
			return "", badName(name, "want lower-case letters and digits with single separators between them")
		}
	}
	return repository(name), nil
}

// IsName reports whether name is the name of a repository.
func IsName(name string) bool {
	_, err := parseName(strings.Split(name, "/"))
	return err == nil
}

// parseOptionalName is parseName for a name that may be missing.
func parseOptionalName(name string) (repository, error) {
	if name == "" {
		return "", nil
	}
	return parseName(strings.Split(name, "/"))
}

func isNameSegment(s string) bool {
	for {
		rest := strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz0123456789")
		if rest == s {
			return false
		}
		if rest == "" {
			return true
		}
		s = strings.TrimLeft(rest, "._-")
		switch separator := rest[:len(rest)-len(s)]; {
		case separator == ".", separator == "_", separator == "__", strings.Trim(separator, "-") == "":
		default:
			return false
		}
	}
}

func parseDigest(s string) (digest.Digest, error) {
	if s == "" {
		return "", errNoDigest
	}
	d, err := digest.Parse(s)
	if err != nil || d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512 {
		return "", badDigest(s)
	}
	return d, nil
}

// maxTag is the length in bytes of the longest tag.
const maxTag = 128

// The bytes of tags in ascending order.
const tagBytes = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

// parseTag parses a tag as the specification defines it:
// [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func parseTag(s string) (string, error) {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' || strings.Trim(s, tagBytes) != "" {
		return "", badTag(s)
	}
	return s, nil
}
