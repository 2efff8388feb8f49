package blobstore

import (
	"context"
	"errors"
	"iter"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// maxHolders is how many repositories MountAny asks about: about as many as one
// request to the store lists.
const maxHolders = 1000

// Holders gives the repositories that have the blob, in the order of their
// names in the bucket. It asks the store as it goes, and no cache.
func (s *Store) Holders(ctx context.Context, dgst digest.Digest) iter.Seq2[reference.Named, error] {
	return func(yield func(reference.Named, error) bool) {
		canonical, err := s.canonical(ctx, dgst, true)
		if errors.Is(err, ErrBlobUnknown) {
			return
		}
		if err != nil {
			yield(nil, err)
			return
		}
		for repository, err := range s.catalog.Repositories(ctx, canonical) {
			if err != nil {
				yield(nil, translate(err))
				return
			}
			name, err := reference.WithName(repository)
			if err == nil && !yield(name, nil) {
				return
			}
		}
	}
}

// MountAny is Mount out of any repository that may be read: may is asked about
// one after the other that has the blob, up to a thousand of them, until it
// says yes. It reports ErrBlobUnknown if there is none.
func (r *Repository) MountAny(ctx context.Context, dgst digest.Digest, may func(ctx context.Context, repository string) bool) (Descriptor, error) {
	asked := 0
	for from, err := range r.s.Holders(ctx, dgst) {
		if err != nil {
			return Descriptor{}, err
		}
		if may(ctx, from.Name()) {
			desc, err := r.Mount(ctx, from, dgst)
			if !errors.Is(err, ErrBlobUnknown) { // else the link has gone since
				return desc, err
			}
		}
		if asked++; asked == maxHolders {
			break
		}
	}
	return Descriptor{}, unknown(dgst)
}
