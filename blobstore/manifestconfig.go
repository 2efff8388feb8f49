package blobstore

import (
	"errors"
	"fmt"

	"github.com/berthhq/berth/redirect/match"
)

// ManifestConfig limits manifests, and protects tags. The zero value of a field
// stands for the default that its comment names.
type ManifestConfig struct {
	// MaxSize is the size in bytes of the largest manifest that can be pushed. It is
	// at most 64 MiB. The default is 4 MiB, the least that the OCI distribution
	// specification allows a registry to have.
	MaxSize int64

	// Memory is the bytes that the manifests of all running pushes may take. It is at
	// least 16 times MaxSize, and at least 1 MiB. The default is 64 MiB, or 16 times
	// MaxSize if that is more.
	Memory int64

	// CacheMemory is the bytes of manifests that are kept in memory. Only manifests of
	// at most 64 KiB are kept. The default is 64 MiB. A negative number turns the cache
	// off.
	CacheMemory int64

	// SparseIndexes accepts indexes whose manifests the repository does not have.
	SparseIndexes bool

	// ImmutableTags are rules for tags that no client may move or delete. The
	// manifests that these tags name cannot be deleted either.
	ImmutableTags []ImmutableTags
}

// ImmutableTags is a rule that protects tags.
type ImmutableTags struct {
	// Repository is a glob over names of repositories, as in redirect.Rule. An empty
	// one matches all.
	Repository string

	// Tags are globs over tags, such as v*. A tag that matches one of them is
	// immutable.
	Tags []string
}

const (
	mib             = 1 << 20
	maxManifestSize = 64 * mib
)

func (c *ManifestConfig) setDefaults() {
	orDefault(&c.MaxSize, 4*mib)
	orDefault(&c.Memory, max(64*mib, memoryFor(c.MaxSize)))
	orDefault(&c.CacheMemory, 64*mib)
}

// validate returns an error for each wrong field. The configuration has its defaults.
func (c *ManifestConfig) validate() error {
	const at = "blobstore.Config.Manifests"
	var problems []error
	if c.MaxSize < 1 || c.MaxSize > maxManifestSize {
		problems = append(problems, fmt.Errorf("%s.MaxSize: %d bytes, want 1 to %d", at, c.MaxSize, maxManifestSize))
	}
	if least := memoryFor(c.MaxSize); c.Memory < least {
		problems = append(problems, fmt.Errorf("%s.Memory: %d bytes, want at least %d for %s.MaxSize of %d", at, c.Memory, least, at, c.MaxSize))
	}
	_, err := newImmutability(c.ImmutableTags)
	return errors.Join(append(problems, err)...)
}

// Immutable returns a function that reports whether the rules of ImmutableTags make a tag
// immutable. Its error names each wrong field.
func (c *ManifestConfig) Immutable() (func(repository, tag string) bool, error) {
	rules, err := newImmutability(c.ImmutableTags)
	return func(repository, tag string) bool { return rules.of(repository).match(tag) }, err
}

// immutability decides which tags are immutable.
type immutability []immutableTags

type immutableTags struct {
	all        bool // repositories
	repository match.Glob
	tags       []match.Glob
}

// newImmutability compiles rules. Its error names each wrong field.
func newImmutability(rules []ImmutableTags) (immutability, error) {
	const at = "blobstore.Config.Manifests.ImmutableTags"
	var compiled immutability
	var problems []error
	for i, rule := range rules {
		c := immutableTags{all: rule.Repository == ""}
		var err error
		if !c.all {
			if c.repository, err = match.ParseGlob(rule.Repository); err != nil {
				problems = append(problems, fmt.Errorf("%s[%d].Repository: %w", at, i, err))
			}
		}
		if len(rule.Tags) == 0 {
			problems = append(problems, fmt.Errorf("%s[%d].Tags: is empty, want globs such as v*", at, i))
		}
		for _, glob := range rule.Tags {
			tag, err := match.ParseTagGlob(glob)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s[%d].Tags: %w", at, i, err))
			}
			c.tags = append(c.tags, tag)
		}
		compiled = append(compiled, c)
	}
	return compiled, errors.Join(problems...)
}

// of returns the rules that apply to a repository.
func (all immutability) of(repository string) immutability {
	var rules immutability
	for _, rule := range all {
		if rule.all || rule.repository.Match(repository) {
			rules = append(rules, rule)
		}
	}
	return rules
}

// match reports whether one of the rules makes the tag immutable. The rules are those
// of the tag's repository.
func (all immutability) match(tag string) bool {
	for _, rule := range all {
		for _, glob := range rule.tags {
			if glob.Match(tag) {
				return true
			}
		}
	}
	return false
}
