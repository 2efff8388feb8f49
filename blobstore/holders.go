package blobstore

import (
	"context"
	"errors"
	"iter"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// maxHolders is the number of repositories that MountAny tries. It is about the
// number of keys in one page of a listing.
const maxHolders = 1000

// Holders returns the repositories that have the blob, in the order of their
// links' keys. It lists as the caller iterates, without the cache, and ends with
// the first error. A blob that no repository has is no error.
func (s *Store) Holders(ctx context.Context, dgst digest.Digest) iter.Seq2[reference.Named, error] {
	return func(yield func(reference.Named, error) bool) {
		canonical, _, err := s.resolve(ctx, dgst)
		if errors.Is(err, ErrBlobUnknown) {
			return
		}
		if err != nil {
			yield(nil, err)
			return
		}
		for repository, err := range s.catalog.Holders(ctx, canonical) {
			if err != nil {
				yield(nil, publicError(err))
				return
			}
			name, err := reference.WithName(repository)
			if err == nil && !yield(name, nil) {
				return
			}
		}
	}
}

// MountAny mounts a blob from any repository that has it and that the caller may
// read. It calls mayRead for up to 1,000 of these repositories, in the order of
// Holders, until mayRead reports true and Mount succeeds. It returns
// ErrBlobUnknown if there is no such repository, and otherwise the errors of Mount.
//
// It is for the mount without a source that the OCI distribution specification
// allows a registry to offer. The caller decides about access.
func (r *Repository) MountAny(ctx context.Context, dgst digest.Digest, mayRead func(ctx context.Context, repository string) bool) (Descriptor, error) {
	tried := 0
	for from, err := range r.s.Holders(ctx, dgst) {
		if err != nil {
			return Descriptor{}, err
		}
		if mayRead(ctx, from.Name()) {
			desc, err := r.Mount(ctx, from, dgst)
			if !errors.Is(err, ErrBlobUnknown) { // the link may have been deleted since
				return desc, err
			}
		}
		if tried++; tried == maxHolders {
			break
		}
	}
	return Descriptor{}, errUnknownBlob(dgst)
}
