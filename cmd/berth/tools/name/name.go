// Package name parses the names that people type: of repositories, and of tags, manifests
// and blobs in them.
package name

import (
	_ "crypto/sha256" // digests are checked by both algorithms
	_ "crypto/sha512"
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Repository is the name of a repository. It implements reference.Named. Package
// reference itself would take the first part of some names for a host.
type Repository string

// Name returns the name.
func (r Repository) Name() string { return string(r) }

// String returns the name.
func (r Repository) String() string { return string(r) }

// Ref names a repository, or a tag or a digest in it. At most one of Tag and Digest is
// set.
type Ref struct {
	Repository Repository
	Tag        string
	Digest     digest.Digest
}

// String returns the name as it is typed.
func (r Ref) String() string { return string(r.Repository) + r.suffix() }

func (r Ref) suffix() string {
	switch {
	case r.Tag != "":
		return ":" + r.Tag
	case r.Digest != "":
		return "@" + string(r.Digest)
	}
	return ""
}

// maxName is the length in bytes of the longest name of a repository.
const maxName = 255

// The names of the OCI distribution specification
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests).
var (
	validRepository = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	validTag        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// Parse parses REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST. Of
// REPOSITORY:TAG@DIGEST it ignores the tag, as clients of registries do.
func Parse(s string) (Ref, error) {
	rest, dgst, hasDigest := strings.Cut(s, "@")
	var ref Ref
	if hasDigest {
		ref.Digest = digest.Digest(dgst)
		if err := checkDigest(ref.Digest); err != nil {
			return Ref{}, fmt.Errorf("%.300q: %w", s, err)
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		tag := rest[i+1:]
		rest = rest[:i]
		if !validTag.MatchString(tag) {
			return Ref{}, fmt.Errorf("%.300q: the tag %.150q is malformed: want up to 128 letters, digits, and \".\", \"_\" or \"-\" after the first", s, tag)
		}
		if !hasDigest {
			ref.Tag = tag
		}
	}
	if len(rest) > maxName || !validRepository.MatchString(rest) {
		return Ref{}, fmt.Errorf("%.300q: the repository %.260q is malformed: want lower-case letters and digits with single separators between them, such as team/app", s, rest)
	}
	ref.Repository = Repository(rest)
	return ref, nil
}

func checkDigest(d digest.Digest) error {
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512 {
		return fmt.Errorf("the digest %.150q is malformed: want sha256: with 64 hexadecimal digits, or sha512: with 128", string(d))
	}
	return nil
}

// ParseDigest parses a digest.
func ParseDigest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	return d, checkDigest(d)
}
