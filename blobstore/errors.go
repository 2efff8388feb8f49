package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/upload"
)

// Errors that a caller can act on, to be matched with [errors.Is]. Any other error
// is a failure of the store that needs an operator.
var (
	// ErrBlobExists is reserved: no function returns it. A push of a blob that
	// exists succeeds, because the bytes of a digest are always the same.
	ErrBlobExists = errors.New("blob exists")

	// ErrBlobDigestUnsupported reports that the digest has another algorithm
	// than sha256 and sha512.
	ErrBlobDigestUnsupported = errors.New("unsupported digest algorithm (want sha256 or sha512)")

	// ErrBlobUnknown reports that this repository does not have the blob. Other
	// repositories may have it.
	ErrBlobUnknown = errors.New("unknown blob")

	// ErrManifestUnknown reports that this repository does not have the manifest, or
	// that no tag of this name resolves to one.
	ErrManifestUnknown = errors.New("unknown manifest")

	// ErrNameUnknown reports that this repository never had a manifest.
	ErrNameUnknown = errors.New("unknown repository")

	// ErrTagInvalid reports that a tag is not written as the specification defines it:
	// [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
	ErrTagInvalid = errors.New("invalid tag")

	// ErrTagChanged reports that a tag does not name what the TagCondition demands.
	ErrTagChanged = errors.New("the tag does not fulfil the condition")

	// ErrTagImmutable reports that a tag may be neither moved nor deleted.
	ErrTagImmutable = errors.New("the tag is immutable")

	// ErrBlobUploadUnknown reports that the upload does not exist, or has ended.
	// The client starts a new upload.
	ErrBlobUploadUnknown = errors.New("blob upload unknown")

	// ErrBlobInvalidLength reports that the number of bytes differs from the
	// declared length.
	ErrBlobInvalidLength = errors.New("blob length differs from the declared length")

	// ErrOutOfOrder reports that the bytes do not continue the upload where it
	// is, or that another request has continued it first. The status of the
	// upload has the offset of the next byte.
	ErrOutOfOrder = errors.New("blob upload is not at this offset")

	// ErrTooLarge reports that the blob exceeds the largest size that can be
	// uploaded.
	ErrTooLarge = errors.New("blob is too large")

	// ErrTooMany reports that too many uploads wait for memory. The client may
	// retry later.
	ErrTooMany = errors.New("too many uploads")

	// ErrFull reports that the store has no room. What was recorded of an upload
	// is kept, and the upload can be resumed after an operator has made room.
	ErrFull = errors.New("the store is full")

	// ErrUnavailable reports a failure that is expected to pass. The client may
	// retry later.
	ErrUnavailable = errors.New("temporarily unavailable")
)

// ErrBlobInvalidDigest reports that a digest is malformed or unsupported, or is not
// the digest of the bytes.
type ErrBlobInvalidDigest struct {
	Digest digest.Digest
	Reason error
}

// Error returns the digest and the reason.
func (err ErrBlobInvalidDigest) Error() string {
	return fmt.Sprintf("invalid digest %q: %v", err.Digest, err.Reason)
}

// Unwrap returns the reason.
func (err ErrBlobInvalidDigest) Unwrap() error { return err.Reason }

// ErrManifestInvalid reports why a manifest is refused. The reason is for the client.
type ErrManifestInvalid struct {
	Reason string
}

// Error returns the reason.
func (err ErrManifestInvalid) Error() string { return "invalid manifest: " + err.Reason }

// ErrManifestTooLarge reports that a manifest is larger than Config.Manifests.MaxSize.
type ErrManifestTooLarge struct {
	MaxSize int64 // bytes
}

// Error returns the limit.
func (err ErrManifestTooLarge) Error() string {
	return fmt.Sprintf("the manifest is larger than %d bytes", err.MaxSize)
}

// Unwrap returns ErrTooLarge.
func (err ErrManifestTooLarge) Unwrap() error { return ErrTooLarge }

// ErrManifestBlobUnknown reports that the repository does not have blobs or manifests
// that a manifest refers to.
type ErrManifestBlobUnknown struct {
	// Digests are those that are missing, at most 100, in the order in which the
	// manifest refers to them.
	Digests []digest.Digest
}

// Error returns the digests.
func (err ErrManifestBlobUnknown) Error() string {
	return fmt.Sprintf("the manifest refers to blobs or manifests that are unknown: %v", err.Digests)
}

// ErrBlobMounted reports that Create has mounted the blob, so that there is nothing
// to upload.
type ErrBlobMounted struct {
	From       reference.Canonical
	Descriptor Descriptor
}

// Error returns the source and the digest of the blob.
func (err ErrBlobMounted) Error() string {
	return fmt.Sprintf("blob mounted from %v: %s", err.From, err.Descriptor.Digest)
}

// publicError returns err as an error of this package, if it is an error of a
// package below that a caller can act on. The result wraps both.
func publicError(err error) error {
	for _, t := range []struct{ from, to error }{
		{upload.ErrUnknown, ErrBlobUploadUnknown},
		{catalog.ErrDamaged, ErrBlobUploadUnknown},
		{upload.ErrOutOfOrder, ErrOutOfOrder},
		{upload.ErrTooLarge, ErrTooLarge},
		{upload.ErrTooMany, ErrTooMany},
		{drivers.ErrFull, ErrFull},
		{upload.ErrCut, ErrUnavailable},
		{drivers.ErrBusy, ErrUnavailable},
		{drivers.ErrRefused, ErrUnavailable},       // until an operator has fixed it; other stores may work
		{context.DeadlineExceeded, ErrUnavailable}, // of a call to the store, or of the whole request
	} {
		if errors.Is(err, t.from) && !errors.Is(err, t.to) {
			return fmt.Errorf("%w: %w", t.to, err)
		}
	}
	return err
}
