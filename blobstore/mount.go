package blobstore

import (
	"context"
	"errors"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
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
	if _, err := source.readLink(ctx, canonical); err != nil {
		return Descriptor{}, err
	}
	for {
		rec, err := envelope.Read[catalog.Record](ctx, r.s.bucket, catalog.RecordKey(canonical))
		if errors.Is(err, drivers.ErrNotFound) {
			return Descriptor{}, unknown(dgst)
		}
		if err != nil {
			return Descriptor{}, translate(err)
		}
		switch rec.Value.State {
		case catalog.Live:
		case catalog.Condemned:
			there, err := r.s.dataIsThere(ctx, rec.Value)
			if err != nil {
				return Descriptor{}, translate(err)
			}
			if !there {
				return Descriptor{}, unknown(dgst)
			}
			next := rec.Value
			next.State = catalog.Live
			rec, err = r.s.replace(ctx, due, rec, next, rec.Raw)
			if errors.Is(err, drivers.ErrChanged) {
				continue
			}
			if err != nil {
				return Descriptor{}, translate(err)
			}
		default:
			return Descriptor{}, unknown(dgst)
		}
		desc, err := r.grant(ctx, due, rec, dgst, named)
		return desc, translate(err)
	}
}
