package catalog

import (
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Prefixes of the keys of repositories.
const (
	ReposPrefix   = "repos/"   // manifests, tags and referrers entries
	MarkersPrefix = "catalog/" // markers
)

// LimitsKey is the key of the largest limits of any process that serves the bucket.
const LimitsKey = MetaPrefix + "limits"

const (
	manifestsDir = "manifests/"
	tagsDir      = "tags/"
	entriesDir   = "referrers/"
)

// encodeName returns the name of a repository as a segment of a key. "!" sorts before
// every character of a name, so names in keys sort as their segments do.
func encodeName(repository string) string { return strings.ReplaceAll(repository, "/", "!") }

func decodeName(segment string) string { return strings.ReplaceAll(segment, "!", "/") }

// RepoPrefix returns the prefix of all keys of a repository under [ReposPrefix].
func RepoPrefix(repository string) string { return ReposPrefix + encodeName(repository) + "/" }

// ManifestsPrefix returns the prefix of all manifests of a repository.
func ManifestsPrefix(repository string) string { return RepoPrefix(repository) + manifestsDir }

// ManifestKey returns the key of a manifest, by the digest that it was pushed by.
func ManifestKey(repository string, d digest.Digest) string {
	return ManifestsPrefix(repository) + d.Algorithm().String() + "/" + d.Encoded()
}

// ParseManifestKey reports whether key is the key of a manifest, and returns the
// repository and the digest in it.
func ParseManifestKey(key string) (repository string, d digest.Digest, ok bool) {
	repository, rest, ok := cutRepo(key, manifestsDir)
	alg, hex, _ := strings.Cut(rest, "/")
	d = digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
	return repository, d, ok && d.Validate() == nil
}

// TagsPrefix returns the prefix of all tags of a repository.
func TagsPrefix(repository string) string { return RepoPrefix(repository) + tagsDir }

// validTag matches tags as the specification defines them.
var validTag = regexp.MustCompile(`^` + reference.TagRegexp.String() + `$`)

// IsTag reports whether tag is well-formed.
func IsTag(tag string) bool { return validTag.MatchString(tag) }

// TagKey returns the key of a tag.
func TagKey(repository, tag string) string { return TagsPrefix(repository) + tag }

// ParseTagKey reports whether key is the key of a tag, and returns the repository
// and the tag in it.
func ParseTagKey(key string) (repository, tag string, ok bool) {
	repository, tag, ok = cutRepo(key, tagsDir)
	return repository, tag, ok && tag != "" && !strings.Contains(tag, "/")
}

// ReferrersPrefix returns the prefix of the referrers entries of all subjects.
func ReferrersPrefix(repository string) string { return RepoPrefix(repository) + entriesDir }

// EntriesPrefix returns the prefix of the referrers entries of a subject.
func EntriesPrefix(repository string, subject digest.Digest) string {
	return ReferrersPrefix(repository) + entryDigest(subject) + "/"
}

// EntryKey returns the key of the entry that states that the manifest referrer names
// the manifest subject.
func EntryKey(repository string, subject, referrer digest.Digest) string {
	return EntriesPrefix(repository, subject) + entryDigest(referrer)
}

// ParseEntryKey reports whether key is the key of a referrers entry, and returns
// what is in it.
func ParseEntryKey(key string) (repository string, subject, referrer digest.Digest, ok bool) {
	repository, rest, ok := cutRepo(key, entriesDir)
	s, r, _ := strings.Cut(rest, "/")
	subject, referrer = parseEntryDigest(s), parseEntryDigest(r)
	return repository, subject, referrer, ok && subject.Validate() == nil && referrer.Validate() == nil
}

// MarkerKey returns the key of a repository's marker.
func MarkerKey(repository string) string { return MarkersPrefix + encodeName(repository) }

// ParseMarkerKey reports whether key is the key of a marker, and returns the
// repository in it.
func ParseMarkerKey(key string) (repository string, ok bool) {
	name, ok := strings.CutPrefix(key, MarkersPrefix)
	return decodeName(name), ok && name != "" && !strings.Contains(name, "/")
}

// entryDigest returns <alg>-<hex>.
func entryDigest(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() }

func parseEntryDigest(s string) digest.Digest {
	alg, hex, _ := strings.Cut(s, "-")
	return digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
}

// cutRepo splits a key under ReposPrefix into the repository and what follows dir.
func cutRepo(key, dir string) (repository, rest string, ok bool) {
	key, ok = strings.CutPrefix(key, ReposPrefix)
	name, rest, found := strings.Cut(key, "/")
	rest, isDir := strings.CutPrefix(rest, dir)
	return decodeName(name), rest, ok && found && isDir && name != ""
}
