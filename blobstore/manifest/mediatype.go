package manifest

import (
	"mime"
	"strings"
)

// The media types of manifests that berth stores. It parses their references, so
// the collector keeps the blobs and manifests that they refer to.
const (
	// https://github.com/opencontainers/image-spec/blob/main/media-types.md
	MediaTypeImage = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex = "application/vnd.oci.image.index.v1+json"

	// https://github.com/distribution/distribution/blob/main/docs/content/spec/manifest-v2-2.md
	MediaTypeDockerImage = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList  = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// The media types of Docker's schema 1, which berth refuses.
const (
	mediaTypeSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// IsManifest reports whether mediaType is a type that berth stores as a
// manifest. An index may also refer to other types. Those are blobs.
func IsManifest(mediaType string) bool { return isImage(mediaType) || isIndex(mediaType) }

func isImage(mediaType string) bool {
	return mediaType == MediaTypeImage || mediaType == MediaTypeDockerImage
}

func isIndex(mediaType string) bool {
	return mediaType == MediaTypeIndex || mediaType == MediaTypeDockerList
}

func isSchema1(mediaType string) bool {
	return mediaType == mediaTypeSchema1 || mediaType == mediaTypeSchema1Signed
}

// isNonDistributable reports whether a layer of this type may be missing from
// the registry, because clients fetch it from the URLs in its descriptor.
// https://github.com/opencontainers/image-spec/blob/main/layer.md#non-distributable-layers
func isNonDistributable(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.v1.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.")
}

// declaredType returns the media type of a Content-Type header, without its
// parameters. It returns an empty string for an empty header.
func declaredType(contentType string) (string, error) {
	if contentType == "" {
		return "", nil
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", invalid("Content-Type %.100q is malformed", contentType)
	}
	return mediaType, nil
}
