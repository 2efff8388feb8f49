package blobstore

import (
	"context"
	"iter"

	"github.com/distribution/reference"
)

// Repositories returns the repositories after last that have, or had, manifests, in
// the order of their keys: "/" sorts before every other character of a name. If last
// is empty, it starts with the first one. last need not be a repository. It lists as
// the caller iterates, in pages of about n names, and ends with the first error.
func (s *Store) Repositories(ctx context.Context, last string, n int) iter.Seq2[reference.Named, error] {
	return func(yield func(reference.Named, error) bool) {
		for name, err := range s.catalog.Marked(ctx, last, n) {
			if err != nil {
				yield(nil, publicError(err))
				return
			}
			if !yield(repositoryName(name), nil) {
				return
			}
		}
	}
}

// repositoryName is the name of a repository as the bucket has it. Package reference
// would take the first part of some names for a host.
type repositoryName string

// Name returns the name.
func (n repositoryName) Name() string { return string(n) }

// String returns the name.
func (n repositoryName) String() string { return string(n) }
