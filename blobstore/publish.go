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

const defaultMediaType = "application/octet-stream"

// naming is the digest that a client names for its bytes.
type naming struct {
	canonical digest.Digest // of the bytes
	named     digest.Digest // the client's; it may be of another algorithm

	// proven means that the bytes have the named digest: they were hashed by its
	// algorithm, or there is an alias. Otherwise the named digest is a claim.
	proven bool
}

// contentOf returns the content of a completed upload for the catalog.
// verifiedKey is a data key of the same blob that this request has checked, if any.
func contentOf(stored upload.Content, mediaType, verifiedKey string) catalog.Content {
	if mediaType == "" {
		mediaType = defaultMediaType
	}
	return catalog.Content{
		Digest:      stored.Digest,
		Size:        stored.Size,
		CRC32C:      stored.CRC32C,
		MediaType:   mediaType,
		Key:         stored.Key,
		Inline:      stored.Inline,
		Dropped:     stored.Dropped,
		VerifiedKey: verifiedKey,
	}
}

func descriptorOf(rec catalog.Record) Descriptor {
	return Descriptor{MediaType: rec.MediaType, Size: rec.Size, Digest: rec.Digest}
}

// publish makes content a blob of this repository, which can also be read by the
// digest that the client named. When it returns without an error, the link is
// durable.
func (l links) publish(ctx context.Context, due deadline.Deadline, content catalog.Content, named digest.Digest) (Descriptor, error) {
	rec, err := l.s.catalog.EnsureRecord(ctx, due, content)
	if content.Dropped && errors.Is(err, drivers.ErrNotFound) {
		return Descriptor{}, errDropped(content.Digest)
	}
	if err != nil {
		return Descriptor{}, err
	}
	return l.grant(ctx, due, rec, named, catalog.StoredAlias{})
}

// errDropped returns the error for a push that discarded its bytes because the
// blob existed, when the blob was deleted before the commit. A retry stores the
// bytes.
func errDropped(d digest.Digest) error {
	return fmt.Errorf("blob %s was deleted during the push: %w", d, drivers.ErrBusy)
}

// grant links the blob of a live record to this repository. It writes the alias
// before the link, so that an acknowledged blob can be read by the digest that the
// client named. alias is the alias that this request has read, if any.
func (l links) grant(ctx context.Context, due deadline.Deadline, rec catalog.StoredRecord, named digest.Digest, alias catalog.StoredAlias) (Descriptor, error) {
	canonical := rec.Value.Digest
	if named != canonical {
		if err := l.s.catalog.WriteAlias(ctx, due, named, canonical, alias); err != nil {
			return Descriptor{}, err
		}
	}
	since := l.s.cache.start()
	replaced, err := l.s.catalog.WriteLink(ctx, due, l.repository, rec)
	switch {
	case replaced:
		l.s.cache.forget(l.id(canonical))
	case err == nil:
		l.s.cache.putLink(since, l.id(canonical), rec.Value, rec.Raw)
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
// If that digest is proven, published creates a missing alias.
func (l links) published(ctx context.Context, due deadline.Deadline, as naming) (catalog.Record, bool, error) {
	rec, ok, err := l.s.catalog.Published(ctx, due, as.canonical, l.repository)
	if ok && as.named != as.canonical {
		ok, err = l.s.ensureAlias(ctx, due, as)
	}
	if !ok || err != nil {
		return catalog.Record{}, false, err
	}
	return rec, true, due.Check()
}

// ensureAlias reports whether there is an alias from the named digest to the
// canonical one. If the named digest is proven, ensureAlias creates a missing alias.
func (s *Store) ensureAlias(ctx context.Context, due deadline.Deadline, as naming) (bool, error) {
	var alias catalog.StoredAlias
	if !as.proven {
		canonical, existing, err := s.resolve(ctx, as.named)
		if errors.Is(err, ErrBlobUnknown) || err == nil && canonical != as.canonical {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		alias = existing
	}
	err := s.catalog.WriteAlias(ctx, due, as.named, as.canonical, alias)
	return err == nil, err
}
