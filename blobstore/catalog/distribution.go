package catalog

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// DistributionPrefix is the prefix of the keys of a CNCF distribution registry. Its
// rootdirectory setting comes before it, and corresponds to the prefix of the bucket.
// berth reads these objects and never writes or deletes one.
//
// https://github.com/distribution/distribution/blob/main/registry/storage/paths.go
const DistributionPrefix = "docker/registry/v2/"

const (
	distributionRepos = DistributionPrefix + "repositories/"
	distributionBlobs = DistributionPrefix + "blobs/"
	linkName          = "/link"
)

// DistributionDataKey returns the key of the bytes of a blob or a manifest.
func DistributionDataKey(d digest.Digest) string {
	return distributionBlobs + digestDir(d) + "/data"
}

// DistributionRepos returns the prefix of all repositories.
func DistributionRepos() string { return distributionRepos }

// DistributionRepo returns the repository that a key belongs to, and a key after all keys
// of the repository and before those of the next one. No segment of a name starts with
// "_", so the keys of a repository are adjacent, even if other names start with its name.
func DistributionRepo(key string) (repository, last string, ok bool) {
	rest, ok := strings.CutPrefix(key, distributionRepos)
	repository, _, found := strings.Cut(rest, "/_")
	if !ok || !found || repository == "" {
		return "", "", false
	}
	return repository, distributionRepos + repository + "/_~", true
}

// DistributionLayers returns the prefix of the links to the blobs of a repository.
func DistributionLayers(repository string) string {
	return distributionRepos + repository + "/_layers/"
}

// DistributionRevisions returns the prefix of the links to the manifests of a repository.
func DistributionRevisions(repository string) string {
	return distributionRepos + repository + "/_manifests/revisions/"
}

// DistributionTags returns the prefix of the tags of a repository. Each tag has one link to
// its manifest, and others to the manifests that it has named before.
func DistributionTags(repository string) string {
	return distributionRepos + repository + "/_manifests/tags/"
}

// ParseDistributionLink reports whether key, under one of the prefixes of links to blobs
// and manifests, is the key of a link, and returns the digest in it.
func ParseDistributionLink(key, prefix string) (d digest.Digest, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	rest, isLink := strings.CutSuffix(rest, linkName)
	alg, hex, _ := strings.Cut(rest, "/")
	d = digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
	return d, ok && isLink && d.Validate() == nil
}

// ParseDistributionTag reports whether key is the key of the link of a tag to its present
// manifest, and returns the tag.
func ParseDistributionTag(key, repository string) (tag string, ok bool) {
	rest, ok := strings.CutPrefix(key, DistributionTags(repository))
	tag, name, _ := strings.Cut(rest, "/")
	return tag, ok && tag != "" && name == "current"+linkName
}
