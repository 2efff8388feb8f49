package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/upload"
)

// naming is the digest that a client names for its bytes.
type naming struct {
	canonical digest.Digest // of the bytes
	named     digest.Digest // the client's; it may be of another algorithm

	// proven reports that the bytes have the digest named: they were hashed by
	// its algorithm, or there is an alias. Otherwise it is a claim.
	proven bool
}

// contentOf returns the content of a completed upload for the catalog.
// verifiedKey is a data key of the same blob that this request has checked, if any.
func contentOf(c upload.Content, desc Descriptor, verifiedKey string) catalog.Content {
	mediaType := desc.MediaType
	if mediaType == "" {
		mediaType = defaultMediaType
	}
	return catalog.Content{
		Digest:      c.Digest,
		Size:        c.Size,
		CRC32C:      c.CRC32C,
		MediaType:   mediaType,
		Key:         c.Key,
		Inline:      c.Inline,
		Dropped:     c.Dropped,
		VerifiedKey: verifiedKey,
	}
}

// publish makes content a blob of this repository, which can also be read by the
// digest that the client named. When it returns without an error, the link is
// durable.
func (r *Repository) publish(ctx context.Context, due deadline.Deadline, content catalog.Content, named digest.Digest) (Descriptor, error) {
	rec, err := r.s.catalog.EnsureRecord(ctx, due, content)
	if content.Dropped && errors.Is(err, drivers.ErrNotFound) {
		return Descriptor{}, errDropped(content.Digest)
	}
	if err != nil {
		return Descriptor{}, err
	}
	return r.grant(ctx, due, rec, named, catalog.StoredAlias{})
}

// errDropped returns the error for a push that discarded its bytes because the
// blob existed, when the blob was deleted before the commit. A retry stores the
// bytes.
func errDropped(d digest.Digest) error {
	return fmt.Errorf("blob %s was deleted during the push: %w", d, drivers.ErrBusy)
}

// grant links the blob of a live record to this repository. It writes the alias
// before the link, so that an acknowledged blob can be read by the digest that the
// client named. read is the alias that this request has read, if any.
func (r *Repository) grant(ctx context.Context, due deadline.Deadline, rec catalog.StoredRecord, named digest.Digest, read catalog.StoredAlias) (Descriptor, error) {
	d := rec.Value.Digest
	if named != d {
		if err := r.s.catalog.WriteAlias(ctx, due, named, d, read); err != nil {
			return Descriptor{}, err
		}
	}
	replaced, err := r.s.catalog.WriteLink(ctx, due, r.name, rec)
	if replaced {
		r.s.cache.forget(linkID{r.name, d})
	}
	if err == nil {
		err = due.Check() // after the deadline the collector may remove the record
	}
	if err != nil {
		return Descriptor{}, err
	}
	return descriptorOf(rec.Value), nil
}

// published reports whether the blob is in this repository already, by the digest
// that the client names, and returns its record. It asks the store, not the cache.
// If the digest is proven but has no alias, published writes the alias.
func (r *Repository) published(ctx context.Context, due deadline.Deadline, as naming) (catalog.Record, bool, error) {
	rec, ok, err := r.s.catalog.Published(ctx, as.canonical, r.name)
	if !ok || err != nil {
		return catalog.Record{}, false, err
	}
	if as.named != as.canonical {
		ok, err := r.ensureAlias(ctx, due, as)
		if !ok || err != nil {
			return catalog.Record{}, false, err
		}
	}
	return rec, true, due.Check()
}

// ensureAlias reports whether there is an alias from the digest named to the
// canonical one. If the digest is proven, ensureAlias creates a missing alias.
func (r *Repository) ensureAlias(ctx context.Context, due deadline.Deadline, as naming) (bool, error) {
	var existing catalog.StoredAlias
	if !as.proven {
		var err error
		existing, err = r.s.readAlias(ctx, as.named)
		if errors.Is(err, ErrBlobUnknown) || err == nil && existing.Value.Digest != as.canonical {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	err := r.s.catalog.WriteAlias(ctx, due, as.named, as.canonical, existing)
	return err == nil, err
}
