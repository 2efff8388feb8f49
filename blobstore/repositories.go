package blobstore

import (
	"context"
	"errors"
	"iter"

	"github.com/distribution/reference"
)

// Repositories returns the repositories after last that have, or had, manifests, in
// the order of their keys: "/" sorts before every other character of a name. If last
// is empty, it starts with the first one. last need not be a repository. It lists as
// the caller iterates, in pages of about n names, and ends with the first error.
func (s *Store) Repositories(ctx context.Context, last string, n int) iter.Seq2[reference.Named, error] {
	return func(yield func(reference.Named, error) bool) {
		yield(nil, errors.ErrUnsupported)
	}
}
