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
// (https://github.com/opencontainers/image-spec/blob/main/descriptor.md).
type Descriptor struct {
	MediaType   string            `json:"mediaType,omitempty"`
	Size        int64             `json:"size"` // bytes
	Digest      digest.Digest     `json:"digest,omitempty"`
	URLs        []string          `json:"urls,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *Platform         `json:"platform,omitempty"`
}

// Descriptor returns d, so that whatever embeds one describes itself.
func (d Descriptor) Descriptor() Descriptor { return d }

// Platform says what a blob runs on, in the terms of the OCI image index.
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// BlobStatter describes blobs.
type BlobStatter interface {
	// Stat describes the blob, by its canonical digest. It reports
	// ErrBlobUnknown if there is none.
	Stat(ctx context.Context, dgst digest.Digest) (Descriptor, error)
}

// BlobDeleter deletes blobs.
type BlobDeleter interface {
	// Delete makes the blob unknown. It reports ErrBlobUnknown if it is
	// already; a retry after a lost answer does too.
	Delete(ctx context.Context, dgst digest.Digest) error
}

// BlobEnumerator lists blobs.
type BlobEnumerator interface {
	// Enumerate calls ingester for each digest, in ascending order, and ends
	// with its first error.
	Enumerate(ctx context.Context, ingester func(dgst digest.Digest) error) error
}

// BlobDescriptorService maps digests, also those of other algorithms than the
// canonical one, to descriptors.
type BlobDescriptorService interface {
	BlobStatter

	// SetDescriptor lets the blob that desc names by its canonical digest be
	// read by dgst too, a digest of another algorithm. It reports
	// ErrBlobUnknown if that blob isn't there, and an ErrBlobInvalidDigest if
	// its bytes don't have that digest.
	SetDescriptor(ctx context.Context, dgst digest.Digest, desc Descriptor) error

	// Clear makes the blob unknown, by whichever digest. It reports
	// ErrBlobUnknown if it is already.
	Clear(ctx context.Context, dgst digest.Digest) error
}

// BlobDescriptorServiceFactory is the hook for access control: what it returns
// stands before every access of a repository to a blob.
type BlobDescriptorServiceFactory interface {
	// BlobAccessController wraps the service of one repository. An error of
	// the wrapper's Stat denies reading, mounting from, and ServeBlob; one of
	// its Clear denies deleting.
	BlobAccessController(svc BlobDescriptorService) BlobDescriptorService
}

// ReadSeekCloser reads a blob from anywhere.
type ReadSeekCloser interface {
	io.ReadSeeker
	io.Closer
}

// BlobProvider gives the bytes of blobs.
type BlobProvider interface {
	// Get returns the whole blob, in memory. It reports ErrBlobUnknown if
	// there is none.
	Get(ctx context.Context, dgst digest.Digest) ([]byte, error)

	// Open reads the blob. It reports ErrBlobUnknown if there is none. The
	// reader is for one goroutine, and goes on by itself when the store breaks
	// a connection.
	Open(ctx context.Context, dgst digest.Digest) (ReadSeekCloser, error)
}

// BlobServer answers HTTP requests for blobs.
type BlobServer interface {
	// ServeBlob answers GET or HEAD: with the bytes, with ranges of them, or
	// with a redirect to them. It writes these answers and those about
	// conditions (304, 412). If it returns an error, nothing was written; an
	// ErrRange is an answer about the Range header.
	ServeBlob(ctx context.Context, w http.ResponseWriter, r *http.Request, dgst digest.Digest) error
}

// BlobIngester takes blobs in.
type BlobIngester interface {
	// Put stores p. A retry is harmless.
	Put(ctx context.Context, mediaType string, p []byte) (Descriptor, error)

	// Create begins an upload. With the option MountFrom it may report an
	// ErrBlobMounted instead: then the blob is here and nothing needs to be
	// uploaded.
	Create(ctx context.Context, options ...BlobCreateOption) (BlobWriter, error)

	// Resume goes on with the upload of that id, from what was recorded of it
	// when its writer was closed, in this process or another. It reports
	// ErrBlobUploadUnknown if nothing was, or the upload has ended.
	Resume(ctx context.Context, id string) (BlobWriter, error)
}

// BlobCreateOption changes how Create begins.
type BlobCreateOption interface {
	// Apply is called with a *CreateOptions, and changes it.
	Apply(v any) error
}

// CreateOptions is what the options of Create say together.
type CreateOptions struct {
	// Mount asks for a blob that another repository has.
	Mount struct {
		ShouldMount bool
		From        reference.Canonical
		// Stat, if not nil, is what the caller knows of the blob already. It
		// proves nothing to berth, which looks by itself.
		Stat *Descriptor
	}

	// Algorithm is one by which the blob may be committed besides the
	// canonical one; empty for none.
	Algorithm digest.Algorithm
}

// BlobWriter takes in the bytes of one upload. It is for one goroutine. It may
// be closed and resumed any number of times until it is committed or cancelled.
type BlobWriter interface {
	io.WriteCloser // Close keeps what was written, for Resume
	io.ReaderFrom

	// Size is how many bytes the upload has.
	Size() int64

	// ID names the upload for Resume.
	ID() string

	// StartedAt is when the upload was begun.
	StartedAt() time.Time

	// Commit makes the bytes a blob, which must have the digest of
	// provisional, and its size if that is not zero. It returns the canonical
	// descriptor. It reports an ErrBlobInvalidDigest or
	// ErrBlobInvalidLength if they don't match, and the writer can go on;
	// after any other error Commit may be called again.
	Commit(ctx context.Context, provisional Descriptor) (canonical Descriptor, err error)

	// Cancel ends the upload without a blob. It may be called any number of
	// times, and does nothing after Commit or Close, so that it can be deferred.
	// If it reports an error, the upload may still go on: call it again.
	Cancel(ctx context.Context) error
}

// BlobService is all that needs no HTTP.
type BlobService interface {
	BlobStatter
	BlobProvider
	BlobIngester
}

// BlobStore is the blobs of one repository.
type BlobStore interface {
	BlobService
	BlobServer
	BlobDeleter
}
