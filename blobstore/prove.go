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

// prove reads the data of a completed upload back, through both hashes: the client
// named a digest of an algorithm that its session did not compute, and a wrong
// alias would let all repositories read other bytes.
//
// It returns nil if the stored bytes have both digests, and an
// ErrBlobInvalidDigest if they do not have the digest that the client named. It
// returns upload.ErrUnknown if the bytes are gone or have changed since, and
// ErrUnavailable if they cannot be read now.
//
// It reads the upload's own data, even if the blob's record names other data,
// because that is what this client sent.
func (c commit) prove(ctx context.Context, stored upload.Content) error {
	named := c.desc.Digest
	asNamed, asStored := named.Verifier(), stored.Digest.Verifier()
	err := c.readBack(ctx, stored, io.MultiWriter(untilDeadline{c.due}, asNamed, asStored))
	switch {
	case errors.Is(err, ErrBlobUnknown):
		return fmt.Errorf("%w: its data is gone", upload.ErrUnknown)
	case err != nil:
		return fmt.Errorf("%w: read %s back: %w", ErrUnavailable, stored.Digest, err)
	case !asStored.Verified():
		return fmt.Errorf("%w: its data no longer has the digest %s", upload.ErrUnknown, stored.Digest)
	case !asNamed.Verified():
		return errOtherBytes(named, stored.Digest)
	}
	return nil
}

// errOtherBytes returns the error for a client that names a wrong digest for the
// bytes with the canonical digest.
func errOtherBytes(named, canonical digest.Digest) error {
	return ErrBlobInvalidDigest{named, fmt.Errorf("it is not a digest of the bytes of %s", canonical)}
}

func (c commit) readBack(ctx context.Context, stored upload.Content, to io.Writer) error {
	rec := catalog.Record{Digest: stored.Digest, Size: stored.Size, Data: stored.Key}
	rc, err := c.r.links().openData(ctx, rec, nil, 0, stored.Size)
	if err != nil {
		return err
	}
	defer rc.Close()
	return copyAll(to, rc)
}

// untilDeadline is a writer that fails once the deadline has passed. It ends the
// read of a file, which has no context.
type untilDeadline struct{ due deadline.Deadline }

// Write discards p.
func (w untilDeadline) Write(p []byte) (int, error) { return len(p), w.due.Check() }
