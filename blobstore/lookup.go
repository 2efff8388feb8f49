package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
)

// checkDigest says what is wrong with a digest that a caller gave.
func checkDigest(d digest.Digest) error {
	err := d.Validate()
	switch {
	case err == nil && (d.Algorithm() == digest.SHA256 || d.Algorithm() == digest.SHA512):
		return nil
	case err == nil || errors.Is(err, digest.ErrDigestUnsupported):
		return ErrBlobInvalidDigest{d, ErrBlobDigestUnsupported}
	default:
		return ErrBlobInvalidDigest{d, err}
	}
}

// checkCanonical is checkDigest for a digest that must be canonical.
func checkCanonical(d digest.Digest) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	if d.Algorithm() != digest.Canonical {
		return ErrBlobInvalidDigest{d, errors.New("want the canonical digest, a sha256")}
	}
	return nil
}

// canonical is the canonical digest of the same bytes, which an alias tells for
// a digest of another algorithm. It reports ErrBlobUnknown if there is none.
// fresh asks the store, not the cache.
func (s *Store) canonical(ctx context.Context, d digest.Digest, fresh bool) (digest.Digest, error) {
	if err := checkDigest(d); err != nil {
		return "", err
	}
	if d.Algorithm() == digest.Canonical {
		return d, nil
	}
	if c, ok := s.cache.alias(d); ok && !fresh {
		return c, nil
	}
	a, err := s.readAlias(ctx, d)
	return a.Value.Digest, err
}

// readAlias asks the store for the alias of a digest of another algorithm. It
// reports ErrBlobUnknown if there is none.
func (s *Store) readAlias(ctx context.Context, d digest.Digest) (catalog.StoredAlias, error) {
	a, err := s.catalog.ReadAlias(ctx, d)
	if err != nil {
		return a, blobError(err, d)
	}
	s.cache.putAlias(d, a.Value.Digest)
	return a, nil
}

func unknown(d digest.Digest) error { return fmt.Errorf("%w: %s", ErrBlobUnknown, d) }

// blobError is translate for an error about one blob: it returns ErrBlobUnknown
// for a blob that is absent.
func blobError(err error, d digest.Digest) error {
	if errors.Is(err, drivers.ErrNotFound) {
		return unknown(d)
	}
	return translate(err)
}

// link reads the repository's link to a blob, from the cache if it can. It
// reports ErrBlobUnknown if there is none, or if the blob can't be read. The
// content of an inline blob comes with it, for sure only if it is wanted.
func (r *Repository) link(ctx context.Context, d digest.Digest, wantRaw bool) (catalog.Record, []byte, error) {
	began := r.s.cache.now()
	canonical, err := r.s.canonical(ctx, d, false)
	if err != nil {
		return catalog.Record{}, nil, err
	}
	id := linkID{r.name, canonical}
	if rec, raw, ok := r.s.cache.link(id, wantRaw); ok {
		return rec, raw, nil
	}
	l, err := r.s.catalog.ReadLink(ctx, canonical, r.name)
	if err != nil {
		return catalog.Record{}, nil, blobError(err, canonical)
	}
	if l.Value.State == catalog.Damaged {
		return catalog.Record{}, nil, unknown(d)
	}
	r.s.cache.putLink(began, id, l.Value, l.Raw)
	return l.Value, l.Raw, nil
}

// descriptors is the BlobDescriptorService of a repository, before access
// control.
type descriptors struct {
	r *Repository
}

func (s descriptors) Stat(ctx context.Context, d digest.Digest) (Descriptor, error) {
	rec, _, err := s.r.link(ctx, d, false)
	if err != nil {
		return Descriptor{}, err
	}
	return descriptorOf(rec), nil
}

// SetDescriptor reads the whole blob and computes both digests, for an alias that
// is not true would let other bytes be read by that digest, in every repository.
// The store is asked for the link, not the cache.
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
			return ErrBlobInvalidDigest{d, errors.New("want the digest of the descriptor, or one of another algorithm")}
		}
		return nil
	}
	l, err := s.r.s.catalog.ReadLink(ctx, desc.Digest, s.r.name)
	if err != nil {
		return blobError(err, desc.Digest)
	}
	if l.Value.State == catalog.Damaged {
		return unknown(desc.Digest)
	}
	rc, err := s.r.openData(ctx, l.Value, l.Raw, 0, l.Value.Size)
	if err != nil {
		return err
	}
	defer rc.Close()
	named, canonical := d.Verifier(), desc.Digest.Verifier()
	if err := copyAll(io.MultiWriter(named, canonical), rc); err != nil {
		return err
	}
	switch {
	case !canonical.Verified(): // nobody hashed it here, or it was damaged since
		return ErrBlobInvalidDigest{desc.Digest, errors.New("the stored bytes have another")}
	case !named.Verified():
		return notOf(d, desc.Digest)
	}
	if err := s.r.s.catalog.WriteAlias(ctx, due, d, desc.Digest, catalog.StoredAlias{}); err != nil {
		return translate(err)
	}
	return translate(due.Check())
}

// Clear removes the link, by the tag just read: an unconditional deletion that
// lands late would take away a newer link.
func (s descriptors) Clear(ctx context.Context, d digest.Digest) error {
	due := s.r.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	canonical, err := s.r.s.canonical(ctx, d, true)
	if err != nil {
		return err
	}
	err = s.r.s.catalog.DeleteLink(ctx, due, canonical, s.r.name)
	s.r.s.cache.forget(linkID{s.r.name, canonical})
	return blobError(err, canonical)
}
