package blobstore

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
	return r.grant(ctx, due, rec, named, storedAlias{})
}

// grant links a live record to this repository. The alias comes before the
// link, so that a blob that was acknowledged can be read by the name it was
// pushed under; read is the one that this request has read, if any.
func (r *Repository) grant(ctx context.Context, due deadline.Deadline, rec storedRecord, named digest.Digest, read storedAlias) (Descriptor, error) {
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
	return rec.Value.descriptor(), nil
}

// liveRecord sees to it that there is a live record of the content, and returns
// it: the one it creates, or else the one that is there, whoever's data that
// names.
func (s *Store) liveRecord(ctx context.Context, due deadline.Deadline, c content) (storedRecord, error) {
	key := s.keys.record(c.Digest)
	raw := drivers.NewBody(c.Inline)
	own := record{
		ID:        randomID(),
		Digest:    c.Digest,
		Size:      c.Size,
		MediaType: c.mediaType,
		CRC32C:    c.CRC32C,
		Created:   time.Now().UTC(),
		State:     live,
		Data:      c.Key,
	}
	for {
		if err := due.Check(); err != nil {
			return storedRecord{}, err
		}
		var there storedRecord
		var err error
		if c.Dropped {
			there, err = envelope.Read[record](ctx, s.bucket, key)
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
func (s *Store) revive(ctx context.Context, due deadline.Deadline, there storedRecord, own record, c content) (storedRecord, error) {
	next := there.Value
	switch there.Value.State {
	case live, condemned:
		ok, err := s.hasData(ctx, there.Value, c)
		if err != nil {
			return there, err
		}
		if ok && there.Value.State == live {
			return there, nil
		}
		if ok {
			next.State = live
			return s.replace(ctx, due, there, next, there.Raw)
		}
	case damaged, unverified:
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
		dead := deadData{Digest: c.Digest, Data: there.Value.Data}
		if _, err := envelope.Create(ctx, s.bucket, s.keys.dead(), dead, drivers.Body{}); err != nil {
			return there, err
		}
	}
	next = own
	next.ID = there.Value.ID
	return s.replace(ctx, due, there, next, c.Inline)
}

// hasData says whether the bytes that a record names are there. They are if
// they are this request's own, or in the record.
func (s *Store) hasData(ctx context.Context, rec record, c content) (bool, error) {
	if rec.Data == "" || rec.Data == c.Key || rec.Data == c.seen {
		return true, nil
	}
	return s.dataIsThere(ctx, rec)
}

func (s *Store) dataIsThere(ctx context.Context, rec record) (bool, error) {
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

func (s *Store) replace(ctx context.Context, due deadline.Deadline, there storedRecord, next record, raw []byte) (storedRecord, error) {
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
func (s *Store) writeAlias(ctx context.Context, due deadline.Deadline, d, canonical digest.Digest, there storedAlias) error {
	key := s.keys.alias(d)
	for {
		if err := due.Check(); err != nil {
			return err
		}
		err := drivers.ErrExists
		if there.Object.Key == "" {
			there, err = envelope.Create(ctx, s.bucket, key, alias{canonical}, drivers.Body{})
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
		_, err = envelope.Replace(ctx, s.bucket, key, there.Object.Tag, alias{canonical}, drivers.Body{})
		if !errors.Is(err, drivers.ErrChanged) {
			return err
		}
		there = storedAlias{}
	}
}

// writeLink lets this repository read the blob of a live record. A link from an
// earlier life of the record, or to bytes that it no longer names, is replaced.
func (r *Repository) writeLink(ctx context.Context, due deadline.Deadline, rec storedRecord) error {
	key := r.s.keys.link(rec.Value.Digest, r.name)
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
		case rec.Value.agrees(there.Value):
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
func (r *Repository) published(ctx context.Context, due deadline.Deadline, as naming) (record, bool, error) {
	l, err := r.readLink(ctx, as.canonical)
	if errors.Is(err, ErrBlobUnknown) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, err
	}
	rec, err := envelope.Read[record](ctx, r.s.bucket, r.s.keys.record(as.canonical))
	if errors.Is(err, drivers.ErrNotFound) {
		return record{}, false, nil
	}
	if err != nil || rec.Value.State != live || !rec.Value.agrees(l.Value) {
		return record{}, false, err
	}
	if as.named != as.canonical {
		var there storedAlias
		if !as.proven {
			there, err = r.s.readAlias(ctx, as.named)
			if errors.Is(err, ErrBlobUnknown) || err == nil && there.Value.Digest != as.canonical {
				return record{}, false, nil
			}
		}
		if err == nil {
			err = r.s.writeAlias(ctx, due, as.named, as.canonical, there)
		}
		if err != nil {
			return record{}, false, err
		}
	}
	return rec.Value, true, due.Check()
}
