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

// Errors that callers can do something about. Others are failures of the store;
// those among them that pass by themselves are ErrUnavailable.
var (
	// ErrBlobExists says that a blob is there already.
	ErrBlobExists = errors.New("blob exists")

	// ErrBlobDigestUnsupported says that blobs are not known by digests of
	// this algorithm.
	ErrBlobDigestUnsupported = errors.New("unsupported digest algorithm (want sha256 or sha512)")

	// ErrBlobUnknown says that this repository has no such blob, whatever
	// others have.
	ErrBlobUnknown = errors.New("unknown blob")

	// ErrBlobUploadUnknown says that there is no such upload, or no longer:
	// start again.
	ErrBlobUploadUnknown = errors.New("blob upload unknown")

	// ErrBlobInvalidLength says that there are more or fewer bytes than was
	// said.
	ErrBlobInvalidLength = errors.New("blob has another length than was said")

	// ErrOutOfOrder says that bytes don't follow the ones that are there, or
	// that another request was first. The upload's status tells where to go
	// on.
	ErrOutOfOrder = errors.New("blob upload is not at this offset")

	// ErrTooLarge says that a blob is over the size that may be uploaded.
	ErrTooLarge = errors.New("blob is too large")

	// ErrTooMany says that too many uploads are going on. Try again later.
	ErrTooMany = errors.New("too many uploads")

	// ErrFull reports that the store has no room. What was uploaded stays, and
	// the upload can be resumed once an operator has made room.
	ErrFull = errors.New("the store is full")

	// ErrUnavailable says that this can't be done now. Try again later.
	ErrUnavailable = errors.New("temporarily unavailable")
)

// ErrBlobInvalidDigest says that a digest is malformed, or not that of the
// bytes.
type ErrBlobInvalidDigest struct {
	Digest digest.Digest
	Reason error
}

func (err ErrBlobInvalidDigest) Error() string {
	return fmt.Sprintf("invalid digest %q: %v", err.Digest, err.Reason)
}

// Unwrap returns the reason.
func (err ErrBlobInvalidDigest) Unwrap() error { return err.Reason }

// ErrBlobMounted says that a blob was mounted, so there is nothing to upload.
type ErrBlobMounted struct {
	From       reference.Canonical
	Descriptor Descriptor
}

func (err ErrBlobMounted) Error() string {
	return fmt.Sprintf("blob mounted from %v: %s", err.From, err.Descriptor.Digest)
}

// translate gives the errors of the packages below this package's terms.
func translate(err error) error {
	for _, t := range []struct{ from, to error }{
		{upload.ErrUnknown, ErrBlobUploadUnknown},
		{catalog.ErrDamaged, ErrBlobUploadUnknown},
		{upload.ErrOutOfOrder, ErrOutOfOrder},
		{upload.ErrTooLarge, ErrTooLarge},
		{upload.ErrTooMany, ErrTooMany},
		{drivers.ErrFull, ErrFull},
		{upload.ErrCut, ErrUnavailable},
		{drivers.ErrBusy, ErrUnavailable},
		{drivers.ErrRefused, ErrUnavailable},       // until an operator has mended it; other services may be well
		{context.DeadlineExceeded, ErrUnavailable}, // a call to the store, or the request as a whole, took too long
	} {
		if errors.Is(err, t.from) && !errors.Is(err, t.to) {
			return fmt.Errorf("%w: %w", t.to, err)
		}
	}
	return err
}
