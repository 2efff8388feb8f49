package blobstore

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// descriptors is the BlobDescriptorService of a repository before access control.
type descriptors struct {
	r *Repository
}

// Stat describes the blob by its link, which may be cached.
func (s descriptors) Stat(ctx context.Context, d digest.Digest) (Descriptor, error) {
	link, err := s.r.links().find(ctx, d, false)
	if err != nil {
		return Descriptor{}, err
	}
	return descriptorOf(link.Record), nil
}

// SetDescriptor reads the whole blob and computes both digests. It has to, because
// a wrong alias would let all repositories read other bytes by the digest d.
func (s descriptors) SetDescriptor(ctx context.Context, d digest.Digest, desc Descriptor) error {
	due := s.r.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	if err := checkDigest(d); err != nil {
		return err
	}
	if err := checkCanonical(desc.Digest); err != nil {
		return err
	}
	if d.Algorithm() == digest.Canonical {
		if d != desc.Digest {
			return ErrBlobInvalidDigest{d, errors.New("want the digest of the descriptor, or a digest of another algorithm")}
		}
		return nil
	}
	link, err := s.r.links().read(ctx, desc.Digest)
	if err != nil {
		return err
	}
	if err := s.verify(ctx, link, d); err != nil {
		return err
	}
	if err := s.r.s.catalog.WriteAlias(ctx, due, d, desc.Digest, catalog.StoredAlias{}); err != nil {
		return publicError(err)
	}
	return publicError(due.Check())
}

// verify reads the bytes of a link. It returns an ErrBlobInvalidDigest unless they
// have the canonical digest of the link, and the digest named.
func (s descriptors) verify(ctx context.Context, link catalog.StoredRecord, named digest.Digest) error {
	rc, err := s.r.links().openData(ctx, link.Value, link.Raw, 0, link.Value.Size)
	if err != nil {
		return err
	}
	defer rc.Close()
	canonical := link.Value.Digest
	asNamed, asStored := named.Verifier(), canonical.Verifier()
	if err := copyAll(io.MultiWriter(asNamed, asStored), rc); err != nil {
		return err
	}
	switch {
	case !asStored.Verified(): // an unverified blob, or one that was damaged since
		return ErrBlobInvalidDigest{canonical, errors.New("the stored bytes have another digest")}
	case !asNamed.Verified():
		return errOtherBytes(named, canonical)
	}
	return nil
}

// Clear deletes the link.
func (s descriptors) Clear(ctx context.Context, d digest.Digest) error {
	return s.r.links().delete(ctx, d)
}
