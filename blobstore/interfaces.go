package blobstore

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Descriptor describes a blob. The JSON names are those of the OCI content
// descriptor
// (https://github.com/opencontainers/image-spec/blob/main/descriptor.md). This
// package sets MediaType, Size and Digest only.
type Descriptor struct {
	MediaType   string            `json:"mediaType,omitempty"`
	Size        int64             `json:"size"` // bytes
	Digest      digest.Digest     `json:"digest,omitempty"`
	URLs        []string          `json:"urls,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *Platform         `json:"platform,omitempty"`
}

// Descriptor returns d. A type that embeds a Descriptor gets the method.
func (d Descriptor) Descriptor() Descriptor { return d }

// Platform is the platform that a blob runs on, in the terms of the OCI image index
// (https://github.com/opencontainers/image-spec/blob/main/image-index.md).
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// BlobStatter describes blobs.
type BlobStatter interface {
	// Stat describes the blob, by its canonical digest. The digest dgst may be
	// of any supported algorithm. It returns ErrBlobUnknown if there is no such
	// blob.
	Stat(ctx context.Context, dgst digest.Digest) (Descriptor, error)
}

// BlobDeleter deletes blobs
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#deleting-blobs).
type BlobDeleter interface {
	// Delete makes the blob unknown. It returns ErrBlobUnknown if the blob is
	// unknown already, also to a retry after a lost response.
	Delete(ctx context.Context, dgst digest.Digest) error
}

// BlobEnumerator lists blobs.
type BlobEnumerator interface {
	// Enumerate calls ingester for each canonical digest, in ascending order. It
	// stops at the first error that ingester returns, and returns it.
	Enumerate(ctx context.Context, ingester func(dgst digest.Digest) error) error
}

// BlobDescriptorService maps digests, of the canonical and of other algorithms, to
// descriptors.
type BlobDescriptorService interface {
	BlobStatter

	// SetDescriptor lets the blob that desc names by its canonical digest be
	// read by dgst too, a digest of another algorithm. It reads the whole blob
	// to verify both digests. A retry is harmless.
	//
	// It returns ErrBlobUnknown if there is no such blob, and an
	// ErrBlobInvalidDigest if the blob's bytes do not have both digests.
	SetDescriptor(ctx context.Context, dgst digest.Digest, desc Descriptor) error

	// Clear makes the blob unknown, by all its digests. It returns
	// ErrBlobUnknown if the blob is unknown already, also to a retry after a
	// lost response.
	Clear(ctx context.Context, dgst digest.Digest) error
}

// BlobDescriptorServiceFactory is the hook for access control. The service that it
// returns is asked before every access of a repository to a blob.
type BlobDescriptorServiceFactory interface {
	// BlobAccessController wraps the service of one repository. If the wrapper's
	// Stat returns an error, reads, mounts from the repository and ServeBlob
	// fail with it. If its Clear does, so do deletions.
	BlobAccessController(svc BlobDescriptorService) BlobDescriptorService
}

// ReadSeekCloser reads a blob from any offset.
type ReadSeekCloser interface {
	io.ReadSeeker
	io.Closer
}

// BlobProvider returns the bytes of blobs.
type BlobProvider interface {
	// Get returns all bytes of the blob. It returns ErrBlobUnknown if there is
	// no such blob.
	Get(ctx context.Context, dgst digest.Digest) ([]byte, error)

	// Open returns a reader of the blob, which the caller has to close. It
	// returns ErrBlobUnknown if there is no such blob. The reader is for one
	// goroutine. It opens a new connection to the store if one breaks.
	Open(ctx context.Context, dgst digest.Digest) (ReadSeekCloser, error)
}

// BlobServer answers HTTP requests for blobs
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-blobs).
type BlobServer interface {
	// ServeBlob answers a GET or HEAD with the blob, with ranges of it, or with
	// a redirect to it, and answers conditions (304, 412). If it returns an
	// error, it has written nothing. An ErrRange has the size for the 416.
	ServeBlob(ctx context.Context, w http.ResponseWriter, r *http.Request, dgst digest.Digest) error
}

// BlobIngester stores blobs
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs).
type BlobIngester interface {
	// Put stores p as a blob of this media type, which may be empty. When it
	// returns without an error, the blob is durable. A retry is harmless.
	Put(ctx context.Context, mediaType string, p []byte) (Descriptor, error)

	// Create starts an upload. With the option MountFrom it may return an
	// ErrBlobMounted instead: then the blob is here, and there is nothing to
	// upload.
	Create(ctx context.Context, options ...BlobCreateOption) (BlobWriter, error)

	// Resume continues the upload with this id from what was recorded when its
	// writer was closed, in this process or another. It returns
	// ErrBlobUploadUnknown if nothing was recorded, or if the upload has ended.
	Resume(ctx context.Context, id string) (BlobWriter, error)
}

// BlobCreateOption is an option of Create.
type BlobCreateOption interface {
	// Apply sets fields of v, which is a *CreateOptions.
	Apply(v any) error
}

// CreateOptions is what the options of Create set.
type CreateOptions struct {
	// Mount asks for a blob of another repository
	// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#mounting-a-blob-from-another-repository).
	Mount struct {
		ShouldMount bool
		From        reference.Canonical

		// Stat may describe the blob. It is ignored, because Mount reads the
		// blob's record anyway.
		Stat *Descriptor
	}

	// Algorithm is the algorithm of the digest that the blob will be committed
	// by. The blob can always be committed by its canonical digest too. It may
	// be empty.
	Algorithm digest.Algorithm
}

// BlobWriter receives the bytes of one upload. It is for one goroutine. An upload
// may be closed and resumed any number of times until it is committed or
// cancelled. A BlobWriter has to be closed, committed or cancelled within
// Config.RequestLimit.
type BlobWriter interface {
	// Close records what was written, for Resume. After Commit or Cancel it
	// does nothing.
	io.WriteCloser
	io.ReaderFrom

	// Size returns the number of bytes that the upload has.
	Size() int64

	// ID returns the id of the upload, for Resume.
	ID() string

	// StartedAt returns the time at which the upload was started, in whole
	// seconds.
	StartedAt() time.Time

	// Commit makes the bytes a blob. They must have the digest of provisional,
	// and its size if that is not zero. Commit returns the canonical descriptor.
	// When it returns without an error, the blob is durable.
	//
	// It returns an ErrBlobInvalidDigest or ErrBlobInvalidLength if provisional
	// does not match the bytes; then the writer can be used as before. After any
	// other error Commit may be called again.
	Commit(ctx context.Context, provisional Descriptor) (canonical Descriptor, err error)

	// Cancel ends the upload without a blob. After Commit or Close it does
	// nothing, so it can be deferred. If it returns an error, the upload may
	// still be resumed, and Cancel has to be called again.
	Cancel(ctx context.Context) error
}

// BlobService is what can be done with blobs without HTTP.
type BlobService interface {
	BlobStatter
	BlobProvider
	BlobIngester
}

// BlobStore is the blobs of one repository. [Store.Repository] returns one.
type BlobStore interface {
	BlobService
	BlobServer
	BlobDeleter
}
