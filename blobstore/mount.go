package blobstore

import (
	"context"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Mount makes a blob of another repository a blob of this repository. It copies
// no byte. It returns ErrBlobUnknown if the source does not have the blob, or if
// the blob's bytes have to be uploaded again. A retry is harmless.
//
// It is the cross-repository mount of the OCI distribution specification
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#mounting-a-blob-from-another-repository).
func (r *Repository) Mount(ctx context.Context, from reference.Named, dgst digest.Digest) (Descriptor, error) {
	due := r.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	source := r.s.Repository(from)
	if r.s.cfg.Access != nil {
		if _, err := source.descriptors.Stat(ctx, dgst); err != nil {
			return Descriptor{}, err
		}
	}
	canonical, alias, err := r.s.resolve(ctx, dgst)
	if err != nil {
		return Descriptor{}, err
	}
	// A damaged link is enough here: the record decides.
	if _, err := r.s.catalog.ReadLink(ctx, canonical, source.name); err != nil {
		return Descriptor{}, blobError(err, canonical)
	}
	rec, err := r.s.catalog.Revive(ctx, due, canonical)
	if err != nil {
		return Descriptor{}, blobError(err, dgst)
	}
	desc, err := r.links().grant(ctx, due, rec, dgst, alias)
	return desc, publicError(err)
}
