package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
)

// checkDigest returns an ErrBlobInvalidDigest unless d is a well-formed sha256 or
// sha512.
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

// checkCanonical returns an ErrBlobInvalidDigest unless d is a well-formed sha256.
func checkCanonical(d digest.Digest) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	if d.Algorithm() != digest.Canonical {
		return ErrBlobInvalidDigest{d, errors.New("want the canonical digest, a sha256")}
	}
	return nil
}

// errUnknownBlob returns an ErrBlobUnknown for d.
func errUnknownBlob(d digest.Digest) error { return fmt.Errorf("%w: %s", ErrBlobUnknown, d) }

// blobError is publicError for an error about the blob d. It returns ErrBlobUnknown
// if the store does not have the key that was read.
func blobError(err error, d digest.Digest) error {
	if errors.Is(err, drivers.ErrNotFound) {
		return errUnknownBlob(d)
	}
	return publicError(err)
}

// canonical returns the canonical digest of the bytes that have the digest d. It
// checks d. For a digest of another algorithm it asks the cache before the store, and
// returns the alias if it has read one. It returns ErrBlobUnknown if there is no alias.
func (s *Store) canonical(ctx context.Context, d digest.Digest) (digest.Digest, catalog.StoredAlias, error) {
	canonical, ok := s.cache.alias(d)
	if ok {
		s.cache.count(cacheOfAliases, true)
		return canonical, catalog.StoredAlias{}, nil
	}
	canonical, alias, err := s.resolve(ctx, d)
	if canonical != d { // it has another algorithm
		s.cache.count(cacheOfAliases, false)
	}
	return canonical, alias, err
}

// resolve is canonical for a caller that must not use the cache.
func (s *Store) resolve(ctx context.Context, d digest.Digest) (digest.Digest, catalog.StoredAlias, error) {
	if err := checkDigest(d); err != nil || d.Algorithm() == digest.Canonical {
		return d, catalog.StoredAlias{}, err
	}
	alias, err := s.readAlias(ctx, d)
	return alias.Value.Digest, alias, err
}

// readAlias asks the store for an alias, and puts it into the cache.
func (s *Store) readAlias(ctx context.Context, d digest.Digest) (catalog.StoredAlias, error) {
	since := s.cache.start()
	alias, err := s.catalog.ReadAlias(ctx, d)
	if err != nil {
		return catalog.StoredAlias{}, blobError(err, d)
	}
	s.cache.putAlias(since, d, alias.Value)
	return alias, nil
}

// links is the links of one repository.
type links struct {
	s          *Store
	repository string
}

func (l links) id(canonical digest.Digest) linkID { return linkID{l.repository, canonical} }

// foundLink is the link to a blob that can be read.
type foundLink struct {
	catalog.Record

	raw   []byte              // of an inline blob
	alias catalog.StoredAlias // that the link was found by; zero if the store was not asked for it
}

// find returns the link to a blob that can be read, from the cache if it is there.
// It returns ErrBlobUnknown if there is no link, or if the blob is damaged. With
// the link of an inline blob it returns the blob's bytes, which are certain to be
// returned only if wantInline is set.
func (l links) find(ctx context.Context, d digest.Digest, wantInline bool) (foundLink, error) {
	canonical, alias, err := l.s.canonical(ctx, d)
	if err != nil {
		return foundLink{}, err
	}
	cached, inline, ok := l.s.cache.link(l.id(canonical), wantInline)
	l.s.cache.count(cacheOfLinks, ok)
	if ok {
		return foundLink{cached, inline, alias}, nil
	}
	since := l.s.cache.start()
	link, err := l.read(ctx, canonical)
	if err != nil {
		return foundLink{}, err
	}
	l.s.cache.putLink(since, l.id(canonical), link.Value, link.Raw)
	return foundLink{link.Value, link.Raw, alias}, nil
}

// keep takes the collector's marks off the link that find has returned, and off the
// alias of the digest that it was found by. A client that was told that the blob exists
// may then name it in a manifest. It sends no request if find has read no mark: what is
// in the cache has none.
func (l links) keep(ctx context.Context, d digest.Digest, found foundLink) error {
	if !found.Condemned && !found.alias.Value.Condemned {
		return nil
	}
	due := l.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	held, err := l.hold(ctx, due, d)
	if err == nil && !held {
		err = errUnknownBlob(d)
	}
	if err == nil {
		err = due.Check()
	}
	return publicError(err)
}

// read returns the link to a blob that can be read. It asks the store. It returns
// ErrBlobUnknown if there is no link, or if the blob is damaged.
func (l links) read(ctx context.Context, canonical digest.Digest) (catalog.StoredRecord, error) {
	link, err := l.s.catalog.ReadLink(ctx, canonical, l.repository)
	switch {
	case err != nil:
		return catalog.StoredRecord{}, blobError(err, canonical)
	case link.Value.State == catalog.Damaged:
		return catalog.StoredRecord{}, errUnknownBlob(canonical)
	}
	return link, nil
}

// delete deletes the link to a blob. It returns ErrBlobUnknown if there is none.
func (l links) delete(ctx context.Context, d digest.Digest) error {
	due := l.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	canonical, _, err := l.s.resolve(ctx, d)
	if err != nil {
		return err
	}
	err = l.s.catalog.DeleteLink(ctx, due, canonical, l.repository)
	l.s.cache.forget(l.id(canonical))
	return blobError(err, canonical)
}
