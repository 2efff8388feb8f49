package blobstore

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/upload"
)

// Upload is the state of an upload, for clients that send each piece in a request
// of its own, to any process.
type Upload struct {
	// ID is the id of the upload.
	ID string

	// State is what the client passes with its next request. It is signed, and
	// opaque to the client.
	State string

	// Size is the number of bytes that are recorded, and so the offset of the
	// next byte.
	Size int64

	// StartedAt is when the upload was started, in whole seconds.
	StartedAt time.Time
}

func newUpload(s *Store, t upload.Token, size int64) Upload {
	return Upload{ID: t.ID, State: s.uploads.Sign(t), Size: size, StartedAt: t.Started}
}

// Body is the bytes of one request of an upload.
type Body struct {
	io.Reader

	// Length is the length of the body in bytes, or -1 if it is unknown.
	Length int64

	// Start is the offset in the upload of the first byte, or -1 if the body
	// continues the upload from its current size.
	Start int64

	// Interrupt makes a Read return soon. It is called from another goroutine,
	// if the client is slow while memory is short. It may be nil if a Read
	// cannot be interrupted.
	Interrupt func()
}

// StartUpload starts an upload that can be committed by its canonical digest and,
// if alg is not empty, by a digest of that algorithm. It sends no request to the
// store. It returns ErrBlobDigestUnsupported for an algorithm other than sha256
// and sha512.
func (r *Repository) StartUpload(alg digest.Algorithm) (Upload, error) {
	alg, err := algorithm(alg)
	if err != nil {
		return Upload{}, err
	}
	return newUpload(r.s, r.s.uploads.Start(r.name, alg), 0), nil
}

// MinChunk returns the size in bytes from which pieces of an upload are stored as
// they arrive, or 0 if the store has no such size. Smaller pieces are accepted,
// and cost more requests to the store. It is the OCI-Chunk-Min-Length of the OCI
// distribution specification
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks).
func (r *Repository) MinChunk() int64 { return r.s.uploads.MinChunk() }

// UploadStatus returns the current state of an upload. It returns
// ErrBlobUploadUnknown if the upload has ended, or if state is not a State of this
// upload.
func (r *Repository) UploadStatus(ctx context.Context, id, state string) (Upload, error) {
	t, err := verifyState(r, id, state)
	if err != nil {
		return Upload{}, publicError(err)
	}
	t, size, err := r.s.uploads.Status(ctx, t)
	if err != nil {
		return Upload{}, publicError(err)
	}
	return newUpload(r.s, t, size), nil
}

// CancelUpload ends an upload without a blob. It returns ErrBlobUploadUnknown if
// the upload has ended, also to a retry, or if state is not a State of this upload.
func (r *Repository) CancelUpload(ctx context.Context, id, state string) error {
	t, err := verifyState(r, id, state)
	if err == nil {
		err = r.s.uploads.Cancel(ctx, t, r.s.newDeadline())
	}
	return publicError(err)
}

// AppendUpload receives a piece of an upload, and records it. If body fails or is
// cut off, the bytes that were received are recorded, and AppendUpload returns both
// an Upload with its new Size and the error.
//
// It returns ErrOutOfOrder, and has recorded nothing, if body does not start where
// the upload is, or if another request has continued the upload first. It returns
// ErrBlobInvalidLength if body does not have its declared length, ErrTooLarge if
// the upload would exceed the configured size, and ErrBlobUploadUnknown as
// UploadStatus does.
//
// A client that lost the response may send the same piece with the same state
// again if body.Start is -1: the bytes that were recorded are skipped. This needs
// the rest of the piece in memory. It returns ErrOutOfOrder if a part was stored
// past the recorded bytes.
func (r *Repository) AppendUpload(ctx context.Context, id, state string, body Body) (Upload, error) {
	t, err := verifyState(r, id, state)
	if err != nil {
		return Upload{}, publicError(err)
	}
	due := r.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	w, err := newWriter(ctx, r.s, t, upload.Options{
		Deadline:  due,
		Length:    body.Length,
		Repeat:    body.Start < 0,
		Interrupt: body.Interrupt,
	})
	if err != nil {
		return Upload{}, publicError(err)
	}
	defer w.Close()
	received := w.receive(body)
	if keepsNothing(received) {
		return Upload{}, publicError(received)
	}
	// A client that has disconnected may resume, so what it sent is recorded.
	last, cancel := due.Context(context.WithoutCancel(ctx))
	defer cancel()
	t, err = w.Suspend(last)
	if errors.Is(err, upload.ErrOutOfOrder) || errors.Is(err, upload.ErrUnknown) {
		return Upload{}, publicError(err)
	}
	if err == nil {
		err = received
	}
	if err == nil {
		err = due.Check()
	}
	return newUpload(r.s, t, w.Recorded()), publicError(err)
}

// keepsNothing reports whether a piece that failed with err is not recorded.
func keepsNothing(err error) bool {
	for _, target := range []error{
		ErrOutOfOrder, ErrBlobInvalidLength,
		upload.ErrOutOfOrder, upload.ErrUnknown, upload.ErrTooLarge,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// FinishUpload receives the last piece of an upload, which may be empty or all of
// it, and makes the upload a blob with the digest of desc, and with its size if
// that is not zero. When it returns without an error, the blob is durable.
//
// It returns an ErrBlobInvalidDigest or ErrBlobInvalidLength if the bytes do not
// match desc, and otherwise the errors of AppendUpload. If it fails, it keeps
// nothing of the piece, so a retry sends the same piece again. A client that lost
// the response gets it again.
func (r *Repository) FinishUpload(ctx context.Context, id, state string, body Body, desc Descriptor) (Descriptor, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return Descriptor{}, err
	}
	t, err := verifyState(r, id, state)
	if err != nil {
		return Descriptor{}, publicError(err)
	}
	c := commit{r, r.s.newDeadline(), desc}
	ctx, cancel := c.due.Context(ctx)
	defer cancel()
	if t.Seq == 0 && desc.Digest.Algorithm() != digest.Canonical {
		t.Algorithm = desc.Digest.Algorithm() // no byte was hashed yet
	}
	w, err := newWriter(ctx, r.s, t, upload.Options{
		Deadline:  c.due,
		Length:    body.Length,
		Commit:    true,
		Digest:    desc.Digest,
		Interrupt: body.Interrupt,
	})
	if err == nil {
		defer w.Close()
		err = w.receive(body)
	}
	if ended, ok := errors.AsType[*upload.EndedError](err); ok {
		committed, err := c.finishAgain(ctx, t, ended)
		return committed, publicError(err)
	}
	if err != nil {
		return Descriptor{}, publicError(err)
	}
	// A client that disconnects now may retry, so the commit is completed.
	return c.run(context.WithoutCancel(ctx), w)
}

// verifyState returns the token in the state that a client passes. It returns
// upload.ErrUnknown if the state was not made for this upload of this repository.
func verifyState(r *Repository, id, state string) (upload.Token, error) {
	t, err := r.s.uploads.Verify(state)
	if err == nil && (t.ID != id || t.Repository != r.name) {
		err = upload.ErrUnknown
	}
	return t, err
}
