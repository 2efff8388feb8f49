package blobstore

import (
	"context"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// Mount makes a blob of another repository one of this one. No byte is copied.
// It reports ErrBlobUnknown if the other one doesn't have it, or if its bytes
// must be pushed all the same.
func (r *Repository) Mount(ctx context.Context, from reference.Named, dgst digest.Digest) (Descriptor, error) {
	due := r.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	source := r.s.Repository(from)
	if r.s.cfg.Access != nil {
		if _, err := source.access.Stat(ctx, dgst); err != nil {
			return Descriptor{}, err
		}
	}
	if err := checkDigest(dgst); err != nil {
		return Descriptor{}, err
	}
	canonical := dgst
	var named catalog.StoredAlias
	if dgst.Algorithm() != digest.Canonical {
		var err error
		if named, err = r.s.readAlias(ctx, dgst); err != nil {
			return Descriptor{}, err
		}
		canonical = named.Value.Digest
	}
	if _, err := r.s.catalog.ReadLink(ctx, canonical, source.name); err != nil {
		return Descriptor{}, blobError(err, canonical)
	}
	rec, err := r.s.catalog.Revive(ctx, due, canonical)
	if err != nil {
		return Descriptor{}, blobError(err, dgst)
	}
	desc, err := r.grant(ctx, due, rec, dgst, named)
	return desc, translate(err)
}
