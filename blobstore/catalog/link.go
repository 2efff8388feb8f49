package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// WriteLink lets a repository read the blob of a record that the same request has
// created, or read as live. It creates the link, or replaces one that does not
// agree with the record: the link of an earlier record, or one that names data
// that was replaced. It reports whether a link was replaced, or may have been: then
// a cached copy is out of date, even if WriteLink returns an error.
//
// It returns drivers.ErrBusy if the deadline has passed before a write. After an
// error the link may have been written. A retry is harmless.
func (c *Catalog) WriteLink(ctx context.Context, due deadline.Deadline, repository string, rec StoredRecord) (replaced bool, err error) {
	key := LinkKey(rec.Value.Digest, repository)
	for {
		if err := due.Check(); err != nil {
			return replaced, err
		}
		existing, err := envelope.Create(ctx, c.bucket, key, rec.Value, drivers.NewBody(rec.Raw))
		switch {
		case err == nil:
			return replaced, nil
		case !errors.Is(err, drivers.ErrExists):
			return replaced, err
		case rec.Value.Agrees(existing.Value):
			return replaced, nil
		}
		replaced = true
		_, err = replace(ctx, c.bucket, due, existing, rec.Value, rec.Raw)
		if !errors.Is(err, drivers.ErrChanged) {
			return replaced, err
		}
	}
}

// UnmarkLink takes the collector's mark off a link that the caller has read, so that
// the link is not removed. It returns the link as it is then. A link without the mark
// costs no request.
//
// It returns drivers.ErrNotFound if the link is gone, and drivers.ErrBusy if the
// deadline has passed before a write. A retry is harmless.
func (c *Catalog) UnmarkLink(ctx context.Context, due deadline.Deadline, link StoredRecord) (StoredRecord, error) {
	for link.Value.Condemned {
		next := link.Value
		next.Condemned = false
		unmarked, err := replace(ctx, c.bucket, due, link, next, link.Raw)
		if !errors.Is(err, drivers.ErrChanged) {
			return unmarked, err
		}
		if link, err = envelope.Read[Record](ctx, c.bucket, link.Object.Key); err != nil {
			return StoredRecord{}, err
		}
	}
	return link, nil
}

// DeleteLink deletes a repository's link to the blob with this canonical digest, by
// the tag that it has just read: an unconditional deletion that takes effect late
// would delete a newer link.
//
// It returns drivers.ErrNotFound if there is no link, and drivers.ErrBusy if the
// deadline has passed. After any other error than ErrNotFound the link may have
// been deleted. A retry is harmless, and returns ErrNotFound if it was.
func (c *Catalog) DeleteLink(ctx context.Context, due deadline.Deadline, d digest.Digest, repository string) error {
	for {
		link, err := c.ReadLink(ctx, d, repository)
		if err != nil {
			return err
		}
		if err := due.Check(); err != nil {
			return err
		}
		err = c.bucket.DeleteIf(ctx, link.Object.Key, link.Object.Tag)
		if err == nil {
			return due.Check()
		}
		if !errors.Is(err, drivers.ErrChanged) {
			return err
		}
	}
}

// WriteAlias lets a blob be read by d, a digest of another algorithm than the
// canonical one. The caller has hashed the bytes by both algorithms, or has read
// the alias, which it passes as existing; otherwise existing is zero. If the alias
// is condemned, WriteAlias replaces it without the mark, and the collector does not
// delete it.
//
// It returns drivers.ErrBusy if the deadline has passed before a write. After an
// error the alias may have been written. A retry is harmless.
func (c *Catalog) WriteAlias(ctx context.Context, due deadline.Deadline, d, canonical digest.Digest, existing StoredAlias) error {
	key, ours := AliasKey(d), Alias{Digest: canonical}
	for {
		if err := due.Check(); err != nil {
			return err
		}
		err := drivers.ErrExists
		if existing.Object.Key == "" {
			existing, err = envelope.Create(ctx, c.bucket, key, ours, drivers.Body{})
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, drivers.ErrExists):
			return err
		case existing.Value.Digest != canonical:
			return fmt.Errorf("catalog: %s: the alias names %s, but the bytes are %s", key, existing.Value.Digest, canonical)
		case !existing.Value.Condemned:
			return nil
		}
		_, err = replace(ctx, c.bucket, due, existing, ours, nil)
		if !errors.Is(err, drivers.ErrChanged) {
			return err
		}
		existing = StoredAlias{}
	}
}
