package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// Content is what a push has stored, and wants to make a blob.
type Content struct {
	Digest    digest.Digest // canonical
	Size      int64         // bytes
	CRC32C    uint32
	MediaType string

	// The bytes are under the data key Key, where they are durable. If Key is
	// empty, they are in Inline, and the record will hold them. Dropped content
	// has neither: the push discarded its bytes because the blob existed.
	Key     string
	Inline  []byte
	Dropped bool

	// VerifiedKey is a data key of this blob that the same request has found,
	// with the right size. It is empty if there is none.
	VerifiedKey string
}

// EnsureRecord returns the live record of a blob with this content. It creates the
// record if there is none. If a record exists, its state decides:
//
//   - Live: EnsureRecord returns it, if its data exists and has the right size.
//   - Condemned: the same, but EnsureRecord replaces it with a live one first.
//   - Damaged or Unverified, or the data is missing: EnsureRecord creates a dead
//     entry for the old data key, and replaces the record with one that names the
//     content.
//
// It returns drivers.ErrNotFound if the content is dropped and there is no record
// to use instead, ErrDamaged if the record is damaged and names this content's
// own key, and drivers.ErrBusy if the deadline has passed. After an error the
// record may have been written. A retry is harmless.
func (c *Catalog) EnsureRecord(ctx context.Context, due deadline.Deadline, content Content) (StoredRecord, error) {
	ours := Record{
		ID:        NewID(),
		Digest:    content.Digest,
		Size:      content.Size,
		MediaType: content.MediaType,
		CRC32C:    content.CRC32C,
		Created:   time.Now().UTC(),
		State:     Live,
		Data:      content.Key,
	}
	for {
		existing, created, err := c.createOrRead(ctx, due, ours, content)
		if err != nil || created {
			return existing, err
		}
		rec, ok, err := c.revive(ctx, due, existing, content.Key, content.VerifiedKey)
		if err == nil && !ok {
			rec, err = c.supersede(ctx, due, existing, ours, content)
		}
		if !errors.Is(err, drivers.ErrChanged) {
			return rec, err
		}
	}
}

// Revive returns the live record of the blob with this canonical digest. A live
// record is returned as it is. A condemned one is replaced with a live one if its
// data exists and has the right size.
//
// It returns drivers.ErrNotFound if there is no record that it can return, and
// drivers.ErrBusy if the deadline has passed before a write. A retry is harmless.
func (c *Catalog) Revive(ctx context.Context, due deadline.Deadline, d digest.Digest) (StoredRecord, error) {
	for {
		rec, err := c.ReadRecord(ctx, d)
		if err != nil || rec.Value.State == Live {
			return rec, err
		}
		rec, ok, err := c.revive(ctx, due, rec)
		switch {
		case errors.Is(err, drivers.ErrChanged):
			continue
		case err == nil && !ok:
			err = fmt.Errorf("catalog: %s: the record is %s, or has no data: %w", d, rec.Value.State, drivers.ErrNotFound)
		}
		return rec, err
	}
}

// createOrRead creates the record. If one exists already, it returns that one. It
// only reads if the content is dropped.
func (c *Catalog) createOrRead(ctx context.Context, due deadline.Deadline, ours Record, content Content) (rec StoredRecord, created bool, err error) {
	if err := due.Check(); err != nil {
		return StoredRecord{}, false, err
	}
	if content.Dropped {
		rec, err = c.ReadRecord(ctx, content.Digest)
		return rec, false, err
	}
	rec, err = envelope.Create(ctx, c.bucket, RecordKey(content.Digest), ours, drivers.NewBody(content.Inline))
	switch {
	case err == nil:
		rec.Raw = content.Inline
		return rec, true, nil
	case errors.Is(err, drivers.ErrExists):
		return rec, false, nil
	}
	return rec, false, err
}

// revive returns an existing record, made live if it is condemned. It reports false
// if the record is in another state, or if its data is missing or has another
// size. Known are data keys that need no check. It returns drivers.ErrChanged if
// the record must be read again.
func (c *Catalog) revive(ctx context.Context, due deadline.Deadline, existing StoredRecord, known ...string) (StoredRecord, bool, error) {
	if s := existing.Value.State; s != Live && s != Condemned {
		return existing, false, nil
	}
	ok, err := c.hasData(ctx, existing.Value, known...)
	if err != nil || !ok || existing.Value.State == Live {
		return existing, ok, err
	}
	next := existing.Value
	next.State = Live
	rec, err := replace(ctx, c.bucket, due, existing, next, existing.Raw)
	return rec, true, err
}

// supersede replaces a record that has no trusted bytes with one that names the
// content. It keeps the record's id. It returns drivers.ErrChanged if the record
// must be read again.
func (c *Catalog) supersede(ctx context.Context, due deadline.Deadline, existing StoredRecord, ours Record, content Content) (StoredRecord, error) {
	switch existing.Value.State {
	case Live, Condemned, Damaged, Unverified:
	default:
		return existing, fmt.Errorf("catalog: %s: unknown state %q", existing.Object.Key, existing.Value.State)
	}
	old := existing.Value.Data
	switch {
	case content.Dropped:
		return existing, fmt.Errorf("catalog: %s: the record has no usable data: %w", content.Digest, drivers.ErrNotFound)
	case content.Key != "" && content.Key == old:
		return existing, fmt.Errorf("catalog: %s: %w", content.Digest, ErrDamaged)
	}
	if strings.HasPrefix(old, drivers.BulkPrefix) {
		if err := due.Check(); err != nil {
			return existing, err
		}
		if _, err := envelope.Create(ctx, c.bucket, NewDeadKey(), Dead{content.Digest, old}, drivers.Body{}); err != nil {
			return existing, err
		}
	}
	ours.ID = existing.Value.ID
	return replace(ctx, c.bucket, due, existing, ours, content.Inline)
}
