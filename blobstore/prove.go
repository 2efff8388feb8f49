package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/upload"
)

// prove reads the data of an upload that was completed back, through both
// hashes: the client named a digest of an algorithm that its session did not
// compute, and an alias states a mathematical fact. It returns nil if the stored
// bytes have both digests, and an ErrBlobInvalidDigest if they do not have the
// named one. It reports upload.ErrUnknown if they are gone, or are no longer the
// bytes that were stored, and ErrUnavailable if they cannot be read now.
//
// The data is the upload's own, whatever the blob's record names: it is what
// this client sent.
func (r *Repository) prove(ctx context.Context, due deadline.Deadline, c upload.Content, named digest.Digest) error {
	asNamed, asStored := named.Verifier(), c.Digest.Verifier()
	err := r.readBack(ctx, c, io.MultiWriter(within{due}, asNamed, asStored))
	switch {
	case errors.Is(err, ErrBlobUnknown):
		return fmt.Errorf("%w: its data is gone", upload.ErrUnknown)
	case err != nil:
		return fmt.Errorf("%w: read %s back: %w", ErrUnavailable, c.Digest, err)
	case !asStored.Verified():
		return fmt.Errorf("%w: its data no longer has the digest %s", upload.ErrUnknown, c.Digest)
	case !asNamed.Verified():
		return notOf(named, c.Digest)
	}
	return nil
}

// notOf is the error for a digest that is not of the bytes that the canonical
// one is of.
func notOf(named, canonical digest.Digest) error {
	return ErrBlobInvalidDigest{named, fmt.Errorf("%s has another", canonical)}
}

func (r *Repository) readBack(ctx context.Context, c upload.Content, to io.Writer) error {
	rc, err := r.openData(ctx, catalog.Record{Digest: c.Digest, Size: c.Size, Data: c.Key}, nil, 0, c.Size)
	if err != nil {
		return err
	}
	defer rc.Close()
	return copyAll(to, rc)
}

// within is a writer that fails once the request has lasted too long. A file is
// read without a context.
type within struct{ due deadline.Deadline }

func (w within) Write(p []byte) (int, error) { return len(p), w.due.Check() }
