package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// ScrubKey is the key of how far berth scrub has verified the bucket.
const ScrubKey = MetaPrefix + "scrub"

// MarkRecord gives the version of a record that the caller has read another state, and the
// CRC-32C of its bytes. It returns drivers.ErrChanged if the record has changed since, and
// drivers.ErrBusy if the deadline has passed. After any other error the record may have
// been replaced.
func (c *Catalog) MarkRecord(ctx context.Context, due deadline.Deadline, rec StoredRecord, state State, crc32c uint32) (StoredRecord, error) {
	next := rec.Value
	next.State, next.CRC32C = state, crc32c
	return replace(ctx, c.bucket, due, rec, next, rec.Raw)
}

// AlignLink makes a repository's link a copy of the record that the caller has read, unless
// it is one, and reports whether it has replaced the link. The collector's mark stays on the
// link. It creates no link.
//
// It returns drivers.ErrChanged if the record has changed since it was read. It finds that
// out after it has read the link, so it never replaces the link of a push that has changed
// the record. It returns drivers.ErrBusy if the deadline has passed before a write. A retry is harmless.
func (c *Catalog) AlignLink(ctx context.Context, due deadline.Deadline, repository string, rec StoredRecord) (replaced bool, err error) {
	for {
		link, err := envelope.Read[Record](ctx, c.bucket, LinkKey(rec.Value.Digest, repository))
		if errors.Is(err, drivers.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		next := rec.Value
		next.Condemned = false
		unmarked := link.Value
		unmarked.Condemned = false
		if next.Agrees(unmarked) && (next.Data != "" || bytes.Equal(link.Raw, rec.Raw)) {
			return false, nil
		}
		now, err := c.ReadRecord(ctx, rec.Value.Digest)
		switch {
		case errors.Is(err, drivers.ErrNotFound) || err == nil && now.Object.Tag != rec.Object.Tag:
			return false, fmt.Errorf("catalog: %s: %w", rec.Object.Key, drivers.ErrChanged)
		case err != nil:
			return false, err
		}
		next.Condemned = link.Value.Condemned
		_, err = replace(ctx, c.bucket, due, link, next, rec.Raw)
		if !errors.Is(err, drivers.ErrChanged) {
			return err == nil, err
		}
	}
}
