package upload

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// read opens one record, and its tail. It returns an EndedError if the record is
// not open.
func (m *Manager) read(ctx context.Context, t Token) (envelope.Stored[sessionRecord], io.ReadCloser, error) {
	s, tail, err := envelope.Open[sessionRecord](ctx, m.cfg.Bucket, m.cfg.Layout.SessionRecord(t.ID, t.Seq))
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return s, nil, &EndedError{Gone: true}
	case err != nil:
		return s, nil, err
	case s.Value.Repository != t.Repository:
		tail.Close()
		return s, nil, fmt.Errorf("%w: it belongs to another repository", ErrUnknown)
	case s.Value.Kind != KindOpen:
		tail.Close()
		return s, nil, ended(s.Value)
	}
	return s, tail, nil
}

// newest returns the token of the session's last record; its Seq is 0 if there is
// none.
func (m *Manager) newest(ctx context.Context, t Token) (Token, error) {
	ctx, cancel := context.WithTimeout(ctx, envelope.SmallCallTimeout)
	defer cancel()
	_, seq, err := listRecords(ctx, m.cfg.Bucket, m.cfg.Layout.Session(t.ID))
	return t.next(seq), err
}

// createNext creates the record that follows t's record. If that number is taken,
// it returns the existing record with ErrOutOfOrder or an EndedError, or with
// ErrUnknown if it belongs to another repository.
func (m *Manager) createNext(ctx context.Context, t Token, due deadline.Deadline, r sessionRecord, tail drivers.Body) (envelope.Stored[sessionRecord], error) {
	if err := due.Check(); err != nil {
		return envelope.Stored[sessionRecord]{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r.Repository, r.Started, r.Algorithm = t.Repository, t.Started, t.Algorithm
	s, err := envelope.Create(ctx, m.cfg.Bucket, m.cfg.Layout.SessionRecord(t.ID, t.Seq+1), r, tail)
	return s, t.outcome(s, err)
}

// outcome returns the error for a request that created the record after t's: err
// itself, or what s means to the request if err is drivers.ErrExists.
func (t Token) outcome(s envelope.Stored[sessionRecord], err error) error {
	switch {
	case !errors.Is(err, drivers.ErrExists):
		return err
	case s.Value.Repository != t.Repository:
		return fmt.Errorf("%w: it belongs to another repository", ErrUnknown)
	case s.Value.Kind == KindOpen:
		return fmt.Errorf("%w: another request continued first", ErrOutOfOrder)
	default:
		return ended(s.Value)
	}
}

// endLost ends a session that has lost bytes, so that its client starts again
// instead of continuing forever. It returns ErrUnknown. If a next record exists,
// it returns ErrOutOfOrder, or how the session ended: the bytes may be gone
// because another request has completed the upload.
func (m *Manager) endLost(ctx context.Context, t Token, due deadline.Deadline, last sessionRecord) error {
	if _, err := m.createNext(ctx, t, due, last.cancelled(), drivers.Body{}); err != nil {
		return err
	}
	return fmt.Errorf("%w: its parts are gone", ErrUnknown)
}

// abort drops the parts of an upload that no record names, or of a session that has
// ended. If that fails, the collector does it.
func (m *Manager) abort(ctx context.Context, u drivers.Upload) {
	if err := m.cfg.Bucket.Abort(ctx, u); err != nil {
		m.cfg.Log.WarnContext(ctx, "staged parts were not dropped", "key", u.Key, "error", err)
	}
}

// spend replaces a record that is no longer needed. If that fails, the record only
// takes up space until the collector removes it.
func (m *Manager) spend(ctx context.Context, t Token, tag string, by sessionRecord) {
	if err := m.trySpend(ctx, t, tag, by); err != nil {
		m.cfg.Log.WarnContext(ctx, "session record not spent", "upload", t.ID, "record", t.Seq, "error", err)
	}
}

// trySpend replaces a record that is no longer needed, unless another request
// has done so.
func (m *Manager) trySpend(ctx context.Context, t Token, tag string, by sessionRecord) error {
	by.Repository, by.Started, by.Algorithm = t.Repository, t.Started, t.Algorithm
	_, err := envelope.Replace(ctx, m.cfg.Bucket, m.cfg.Layout.SessionRecord(t.ID, t.Seq), tag, by, drivers.Body{})
	if errors.Is(err, drivers.ErrChanged) {
		return nil
	}
	return err
}

// Committed returns the data of an upload that was committed, for a request that
// has none of its bytes. It returns ErrUnknown if the data does not exist (yet):
// the request that committed the upload has not completed it.
func (m *Manager) Committed(ctx context.Context, t Token, e *EndedError) (Content, error) {
	if e.upload == nil && e.end > 0 {
		_, tail, err := m.read(ctx, t.next(e.end))
		if err == nil {
			tail.Close()
			return Content{}, fmt.Errorf("upload: session %s: record %d does not end the session", t.ID, e.end)
		}
		end, ok := errors.AsType[*EndedError](err)
		if !ok {
			return Content{}, err
		}
		e = end
	}
	if e.upload == nil || e.Digest == "" {
		return Content{}, ErrUnknown
	}
	return completed(ctx, m.cfg.Bucket, *e.upload, Content{Digest: e.Digest, Size: e.size, CRC32C: e.crc})
}

// completed returns c with its key if u was completed, and ErrUnknown otherwise.
func completed(ctx context.Context, b drivers.Bucket, u drivers.Upload, c Content) (Content, error) {
	ctx, cancel := context.WithTimeout(ctx, envelope.SmallCallTimeout)
	defer cancel()
	o, err := b.Stat(ctx, u.Key)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return c, fmt.Errorf("%w: its parts are gone", ErrUnknown)
	case err != nil:
		return c, err
	case o.Size != c.Size:
		return c, fmt.Errorf("upload: %s has %d bytes, want %d", u.Key, o.Size, c.Size)
	}
	c.Key = u.Key
	return c, nil
}

func ended(r sessionRecord) *EndedError {
	return &EndedError{Digest: r.Digest, RequestedDigest: r.RequestedDigest, end: r.End, upload: r.Upload, size: r.Offset, crc: r.CRC32C}
}
