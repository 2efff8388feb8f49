package blobstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/upload"
)

// content is bytes that are about to become a blob, or a part in one.
type content struct {
	upload.Content
	mediaType string

	// seen is a data key that this request found to be there, of the right
	// size.
	seen string
}

// publish makes content a blob of this repository, also under the digest that
// the client named, if that is another than the canonical one. When it returns
// without error, the link is durable.
func (r *Repository) publish(ctx context.Context, due deadline.Deadline, c content, named digest.Digest) (Descriptor, error) {
	rec, err := r.s.liveRecord(ctx, due, c)
	if err != nil {
		return Descriptor{}, err
	}
	return r.grant(ctx, due, rec, named, catalog.StoredAlias{})
}

// grant links a live record to this repository. The alias comes before the
// link, so that a blob that was acknowledged can be read by the name it was
// pushed under; read is the one that this request has read, if any.
func (r *Repository) grant(ctx context.Context, due deadline.Deadline, rec catalog.StoredRecord, named digest.Digest, read catalog.StoredAlias) (Descriptor, error) {
	if named != rec.Value.Digest {
		if err := r.s.writeAlias(ctx, due, named, rec.Value.Digest, read); err != nil {
			return Descriptor{}, err
		}
	}
	if err := r.writeLink(ctx, due, rec); err != nil {
		return Descriptor{}, err
	}
	if err := due.Check(); err != nil { // the collector may be at work on what this rests on
		return Descriptor{}, err
	}
	return descriptorOf(rec.Value), nil
}

// liveRecord sees to it that there is a live record of the content, and returns
// it: the one it creates, or else the one that is there, whoever's data that
// names.
func (s *Store) liveRecord(ctx context.Context, due deadline.Deadline, c content) (catalog.StoredRecord, error) {
	key := catalog.RecordKey(c.Digest)
	raw := drivers.NewBody(c.Inline)
	own := catalog.Record{
		ID:        catalog.NewID(),
		Digest:    c.Digest,
		Size:      c.Size,
		MediaType: c.mediaType,
		CRC32C:    c.CRC32C,
		Created:   time.Now().UTC(),
		State:     catalog.Live,
		Data:      c.Key,
	}
	for {
		if err := due.Check(); err != nil {
			return catalog.StoredRecord{}, err
		}
		var there catalog.StoredRecord
		var err error
		if c.Dropped {
			there, err = envelope.Read[catalog.Record](ctx, s.bucket, key)
			if errors.Is(err, drivers.ErrNotFound) {
				return there, dropped(c.Digest)
			}
		} else {
			there, err = envelope.Create(ctx, s.bucket, key, own, raw)
			if err == nil {
				there.Raw = c.Inline
				return there, nil
			}
			if errors.Is(err, drivers.ErrExists) {
				err = nil
			}
		}
		if err != nil {
			return there, err
		}
		there, err = s.revive(ctx, due, there, own, c)
		if !errors.Is(err, drivers.ErrChanged) {
			return there, err
		}
	}
}

// dropped is the answer to a client whose bytes were dropped because the store
// had the blob, and then it hadn't. When it comes again, they will be kept.
func dropped(d digest.Digest) error {
	return fmt.Errorf("blob %s vanished while it was pushed: %w", d, drivers.ErrBusy)
}

// revive makes a record that was there already live, if it isn't. It reports
// drivers.ErrChanged if it must be read again.
func (s *Store) revive(ctx context.Context, due deadline.Deadline, there catalog.StoredRecord, own catalog.Record, c content) (catalog.StoredRecord, error) {
	next := there.Value
	switch there.Value.State {
	case catalog.Live, catalog.Condemned:
		ok, err := s.hasData(ctx, there.Value, c)
		if err != nil {
			return there, err
		}
		if ok && there.Value.State == catalog.Live {
			return there, nil
		}
		if ok {
			next.State = catalog.Live
			return s.replace(ctx, due, there, next, there.Raw)
		}
	case catalog.Damaged, catalog.Unverified:
	default:
		return there, fmt.Errorf("blobstore: %s: unknown state %q", there.Object.Key, there.Value.State)
	}

	// The bytes that are there can't be trusted: these take their place.
	switch {
	case c.Dropped:
		return there, dropped(c.Digest)
	case c.Key != "" && there.Value.Data == c.Key:
		return there, fmt.Errorf("%w: its data was damaged since", upload.ErrUnknown)
	}
	if strings.HasPrefix(there.Value.Data, drivers.BulkPrefix) {
		if err := due.Check(); err != nil {
			return there, err
		}
		dead := catalog.Dead{Digest: c.Digest, Data: there.Value.Data}
		if _, err := envelope.Create(ctx, s.bucket, catalog.NewDeadKey(), dead, drivers.Body{}); err != nil {
			return there, err
		}
	}
	next = own
	next.ID = there.Value.ID
	return s.replace(ctx, due, there, next, c.Inline)
}

// hasData says whether the bytes that a record names are there. They are if
// they are this request's own, or in the record.
func (s *Store) hasData(ctx context.Context, rec catalog.Record, c content) (bool, error) {
	if rec.Data == "" || rec.Data == c.Key || rec.Data == c.seen {
		return true, nil
	}
	return s.dataIsThere(ctx, rec)
}

func (s *Store) dataIsThere(ctx context.Context, rec catalog.Record) (bool, error) {
	if rec.Data == "" {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, envelope.Patience)
	defer cancel()
	o, err := s.bucket.Stat(ctx, rec.Data)
	if errors.Is(err, drivers.ErrNotFound) {
		return false, nil
	}
	return err == nil && o.Size == rec.Size, err
}

func (s *Store) replace(ctx context.Context, due deadline.Deadline, there catalog.StoredRecord, next catalog.Record, raw []byte) (catalog.StoredRecord, error) {
	if err := due.Check(); err != nil {
		return there, err
	}
	replaced, err := envelope.Replace(ctx, s.bucket, there.Object.Key, there.Object.Tag, next, drivers.NewBody(raw))
	replaced.Raw = raw
	return replaced, err
}

// writeAlias lets a blob be read by a digest of another algorithm, too. The
// caller has hashed its bytes by both, or read there, the alias that says so;
// there is zero if it has read none. An alias that the collector might soon
// take for old is written anew, so that its tag changes.
func (s *Store) writeAlias(ctx context.Context, due deadline.Deadline, d, canonical digest.Digest, there catalog.StoredAlias) error {
	key := catalog.AliasKey(d)
	for {
		if err := due.Check(); err != nil {
			return err
		}
		err := drivers.ErrExists
		if there.Object.Key == "" {
			there, err = envelope.Create(ctx, s.bucket, key, catalog.Alias{Digest: canonical}, drivers.Body{})
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, drivers.ErrExists):
			return err
		case there.Value.Digest != canonical:
			return fmt.Errorf("blobstore: %s: it says %s, and the bytes are %s", key, there.Value.Digest, canonical)
		case time.Since(there.Object.Modified) <= s.cfg.Grace/2:
			return nil
		}
		if err := due.Check(); err != nil {
			return err
		}
		_, err = envelope.Replace(ctx, s.bucket, key, there.Object.Tag, catalog.Alias{Digest: canonical}, drivers.Body{})
		if !errors.Is(err, drivers.ErrChanged) {
			return err
		}
		there = catalog.StoredAlias{}
	}
}

// writeLink lets this repository read the blob of a live record. A link from an
// earlier life of the record, or to bytes that it no longer names, is replaced.
func (r *Repository) writeLink(ctx context.Context, due deadline.Deadline, rec catalog.StoredRecord) error {
	key := catalog.LinkKey(rec.Value.Digest, r.name)
	raw := drivers.NewBody(rec.Raw)
	for {
		if err := due.Check(); err != nil {
			return err
		}
		there, err := envelope.Create(ctx, r.s.bucket, key, rec.Value, raw)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, drivers.ErrExists):
			return err
		case rec.Value.Agrees(there.Value):
			return nil
		}
		if err := due.Check(); err != nil {
			return err
		}
		_, err = envelope.Replace(ctx, r.s.bucket, key, there.Object.Tag, rec.Value, raw)
		r.s.cache.forget(linkID{r.name, rec.Value.Digest})
		if !errors.Is(err, drivers.ErrChanged) {
			return err
		}
	}
}

// published reports whether the blob is in this repository already: its link
// agrees with a live record, which is returned. The store is asked, no cache. A
// blob that the client names by another digest is there only if it can be read
// by that one too, for which the alias is written if the digest is proven.
func (r *Repository) published(ctx context.Context, due deadline.Deadline, as naming) (catalog.Record, bool, error) {
	l, err := r.readLink(ctx, as.canonical)
	if errors.Is(err, ErrBlobUnknown) {
		return catalog.Record{}, false, nil
	}
	if err != nil {
		return catalog.Record{}, false, err
	}
	rec, err := envelope.Read[catalog.Record](ctx, r.s.bucket, catalog.RecordKey(as.canonical))
	if errors.Is(err, drivers.ErrNotFound) {
		return catalog.Record{}, false, nil
	}
	if err != nil || rec.Value.State != catalog.Live || !rec.Value.Agrees(l.Value) {
		return catalog.Record{}, false, err
	}
	if as.named != as.canonical {
		var there catalog.StoredAlias
		if !as.proven {
			there, err = r.s.readAlias(ctx, as.named)
			if errors.Is(err, ErrBlobUnknown) || err == nil && there.Value.Digest != as.canonical {
				return catalog.Record{}, false, nil
			}
		}
		if err == nil {
			err = r.s.writeAlias(ctx, due, as.named, as.canonical, there)
		}
		if err != nil {
			return catalog.Record{}, false, err
		}
	}
	return rec.Value, true, due.Check()
}
