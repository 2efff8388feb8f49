package blobstore

import (
	"context"
	"iter"
	"net/http"

	"github.com/opencontainers/go-digest"
)

// Manifest is a manifest: its description, and the bytes that were pushed.
type Manifest struct {
	// Descriptor has the media type and the size, and the digest that the manifest was
	// pushed by.
	Descriptor

	// Content is the exact bytes that were pushed. The caller must not change them.
	Content []byte
}

// ManifestPut is a manifest to store, with the tags that shall name it.
type ManifestPut struct {
	// MediaType is the Content-Type that the manifest was sent with. It may be empty if
	// the content has a field mediaType.
	MediaType string
	Content   []byte

	// Digest is the digest by which the manifest can be read, a sha256 or sha512 of
	// Content. If it is empty, it is the sha256.
	Digest digest.Digest

	// Tags are the tags to move to the manifest, at most MaxTags.
	Tags []string

	// Condition must hold for each of the tags. Otherwise nothing is stored.
	Condition TagCondition
}

// MaxTags is the largest number of tags that one ManifestPut may have.
const MaxTags = 100

// TagCondition is a condition on what a tag names before it is moved. The zero value
// always holds. A tag that does not resolve counts as absent.
type TagCondition struct {
	Absent bool          // the tag must not exist
	Digest digest.Digest // if not empty: the tag must name the manifest with this digest
}

// ManifestDescriptor describes a manifest, and what it states about another one.
type ManifestDescriptor struct {
	Descriptor

	ArtifactType string        // see manifest.Manifest
	Subject      digest.Digest // empty if the manifest has no subject
}

// ManifestService is the manifests of one repository
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests).
// A digest may be a sha256 or a sha512. A manifest can be read by the digest only that
// it was pushed by.
type ManifestService interface {
	// Exists reports whether the repository has the manifest.
	Exists(ctx context.Context, dgst digest.Digest) (bool, error)

	// Get returns the manifest. It returns ErrManifestUnknown if the repository does not
	// have it.
	Get(ctx context.Context, dgst digest.Digest) (Manifest, error)

	// Put stores a manifest and moves the tags to it. When it returns without an error,
	// the manifest, its tags and its entry among the referrers of its subject are
	// durable. A retry without a condition is harmless.
	//
	// It returns an ErrManifestInvalid if the content is not a manifest that this package
	// reads, an ErrManifestBlobUnknown if the repository does not have what it refers
	// to, ErrTagChanged if the condition does not hold, and ErrTagImmutable if a tag may
	// not be moved. Then no tag has been moved.
	Put(ctx context.Context, put ManifestPut) (ManifestDescriptor, error)

	// Delete makes the manifest unknown, with all tags that name it. It returns
	// ErrManifestUnknown if it is unknown already, also to a retry after a lost
	// response, and ErrTagImmutable if a tag that names it may not be deleted.
	Delete(ctx context.Context, dgst digest.Digest) error

	// Enumerate calls ingester for the digest of each manifest, in ascending order. It
	// stops at the first error that ingester returns, and returns it.
	Enumerate(ctx context.Context, ingester func(dgst digest.Digest) error) error
}

// TagService is the tags of one repository.
type TagService interface {
	// Get describes the manifest that the tag names. It returns ErrManifestUnknown if
	// there is no such tag, or if it names a manifest that was deleted.
	Get(ctx context.Context, tag string) (Descriptor, error)

	// Tag moves the tag to the manifest with the digest of desc, which the repository
	// has. It returns ErrManifestUnknown if the repository does not have the manifest,
	// and ErrTagImmutable if the tag may not be moved. A retry is harmless.
	Tag(ctx context.Context, tag string, desc Descriptor) error

	// Untag deletes the tag, and keeps the manifest. It returns ErrManifestUnknown if
	// there is no such tag, also to a retry after a lost response, and ErrTagImmutable if
	// the tag may not be deleted.
	Untag(ctx context.Context, tag string) error

	// All returns all tags in ascending order. It returns ErrNameUnknown if the
	// repository never had a manifest.
	All(ctx context.Context) ([]string, error)

	// Lookup returns the tags that name the manifest with the digest of desc, in
	// ascending order. It reads all tags.
	Lookup(ctx context.Context, desc Descriptor) ([]string, error)
}

// Referrers lists the manifests that have a certain subject
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers).
type Referrers interface {
	// Referrers returns the manifests whose subject is the manifest with this digest,
	// which need not exist, in ascending order of their digests. If after is not empty, it
	// returns only those after that digest. It reads as the caller iterates, and ends
	// with the first error. The descriptors have the annotations of the manifests.
	Referrers(ctx context.Context, subject, after digest.Digest) iter.Seq2[ManifestDescriptor, error]
}

// ManifestServer answers HTTP requests for manifests.
type ManifestServer interface {
	// ServeManifest answers a GET or HEAD with a manifest, and answers conditions (304).
	// The reference is a tag or a digest. If it returns an error, it has written nothing.
	ServeManifest(ctx context.Context, w http.ResponseWriter, r *http.Request, ref string) error
}
