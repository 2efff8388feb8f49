package upload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// read opens one record, and its tail.
func (m *Manager) read(ctx context.Context, t Token) (envelope.Stored[record], io.ReadCloser, error) {
	s, tail, err := envelope.Open[record](ctx, m.cfg.Bucket, m.cfg.Layout.SessionRecord(t.ID, t.Seq))
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return s, nil, &EndedError{Gone: true}
	case err != nil:
		return s, nil, err
	case s.Value.Repository != t.Repository:
		tail.Close()
		return s, nil, fmt.Errorf("%w: it belongs to another repository", ErrUnknown)
	case s.Value.Kind != kindOpen:
		tail.Close()
		return s, nil, ended(s.Value)
	}
	return s, tail, nil
}

// over returns the error for a request whose own upload the store no longer has:
// how the session ended or who continued it, if a next record shows that.
func (m *Manager) over(ctx context.Context, t Token) error {
	_, tail, err := m.read(ctx, t.next(t.Seq+1))
	ended, isEnd := errors.AsType[*EndedError](err)
	switch {
	case err == nil:
		tail.Close()
		return fmt.Errorf("%w: another request continued first", ErrOutOfOrder)
	case isEnd && ended.Gone:
		return fmt.Errorf("%w: its parts are gone", ErrUnknown)
	default:
		return err
	}
}

// endLost ends a session whose bytes can't be had any more, so that its client
// starts again and doesn't continue for ever. It reports ErrUnknown. If there is
// a next record, it reports ErrOutOfOrder, or how the session ended: the bytes
// may be gone because another request has completed the upload.
func (m *Manager) endLost(ctx context.Context, t Token, due deadline.Deadline, last record) error {
	r := record{Kind: kindCancelled, Upload: last.Upload, Offset: last.Offset}
	if _, err := m.createNext(ctx, t, due, r, drivers.Body{}); err != nil {
		return err
	}
	return fmt.Errorf("%w: its parts are gone", ErrUnknown)
}

// gone returns the error for a request that found its upload gone, and ends the
// session if the upload is that of the session.
func (w *Writer) gone(ctx context.Context) error {
	if w.base.Value.Upload == nil {
		return w.m.over(ctx, w.token)
	}
	return w.m.endLost(ctx, w.token, w.due, w.base.Value)
}

func ended(r record) *EndedError {
	return &EndedError{Digest: r.Digest, Named: r.Named, end: r.End, upload: r.Upload, size: r.Offset, crc: r.CRC32C}
}

// newest returns the token of the session's last record; its Seq is 0 if there is
// none.
func (m *Manager) newest(ctx context.Context, t Token) (Token, error) {
	ctx, cancel := context.WithTimeout(ctx, envelope.SmallCallTimeout)
	defer cancel()
	t = t.next(0)
	for o, err := range m.cfg.Bucket.List(ctx, m.cfg.Layout.Session(t.ID), "") {
		if err != nil {
			return t, err
		}
		seq, err := strconv.Atoi(path.Base(o.Key))
		if err != nil {
			return t, fmt.Errorf("upload: session record %s: %w", o.Key, err)
		}
		t = t.next(seq)
	}
	return t, nil
}

// Status returns how many bytes of the upload are safe, and the token to continue
// from there. It reports ErrUnknown if the session has ended. It doesn't
// prolong it.
func (m *Manager) Status(ctx context.Context, t Token) (Token, int64, error) {
	last, err := m.newest(ctx, t)
	if err != nil {
		return t, 0, err
	}
	if last.Seq == 0 {
		if t.Seq > 0 {
			return t, 0, &EndedError{Gone: true}
		}
		return last, 0, nil
	}
	s, tail, err := m.read(ctx, last)
	if err != nil {
		return t, 0, err
	}
	tail.Close()
	last.Started, last.Algorithm = s.Value.Started, s.Value.Algorithm
	return last, s.Value.Offset, nil
}

// Find returns the token of an upload of which only the id is known, and how many
// bytes of it are safe. It reports ErrUnknown if nothing was recorded
// under that id, or it has expired.
func (m *Manager) Find(ctx context.Context, repository, id string) (Token, int64, error) {
	t, size, err := m.Status(ctx, Token{ID: id, Repository: repository})
	switch {
	case err != nil:
		return t, 0, err
	case t.Seq == 0:
		return t, 0, fmt.Errorf("%w: nothing was recorded", ErrUnknown)
	default:
		return t, size, m.checkAge(t)
	}
}

// createNext creates the record after the one that t names. If another record is
// there, it reports ErrOutOfOrder, or how the session ended, and returns that
// record.
func (m *Manager) createNext(ctx context.Context, t Token, due deadline.Deadline, r record, tail drivers.Body) (envelope.Stored[record], error) {
	if err := due.Check(); err != nil {
		return envelope.Stored[record]{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r.Repository, r.Started, r.Algorithm = t.Repository, t.Started, t.Algorithm
	s, err := envelope.Create(ctx, m.cfg.Bucket, m.cfg.Layout.SessionRecord(t.ID, t.Seq+1), r, tail)
	return s, t.outcome(s, err)
}

// outcome returns the error for a request that created the record after t's: err
// itself, or what s means to the request if err is drivers.ErrExists.
func (t Token) outcome(s envelope.Stored[record], err error) error {
	switch {
	case !errors.Is(err, drivers.ErrExists):
		return err
	case s.Value.Repository != t.Repository:
		return fmt.Errorf("%w: it belongs to another repository", ErrUnknown)
	case s.Value.Kind == kindOpen:
		return fmt.Errorf("%w: another request continued first", ErrOutOfOrder)
	default:
		return ended(s.Value)
	}
}

// abort drops the parts of an upload that no record names, or whose session has
// ended. If that fails it is left to the collector.
func (m *Manager) abort(ctx context.Context, u drivers.Upload) {
	if err := m.cfg.Bucket.Abort(ctx, u); err != nil {
		m.cfg.Log.WarnContext(ctx, "staged parts not dropped", "key", u.Key, "error", err)
	}
}

// Cancel ends the upload, wherever it stands, and drops its parts. It reports
// ErrUnknown if it has ended already. After due it writes nothing.
func (m *Manager) Cancel(ctx context.Context, t Token, due deadline.Deadline) error {
	ctx, cancel := due.Context(ctx)
	defer cancel()
	for {
		var last envelope.Stored[record]
		if t.Seq > 0 {
			var tail io.ReadCloser
			var err error
			if last, tail, err = m.read(ctx, t); err != nil {
				return err
			}
			tail.Close()
		}
		_, err := m.createNext(ctx, t, due, record{Kind: kindCancelled, Upload: last.Value.Upload, Offset: last.Value.Offset}, drivers.Body{})
		if errors.Is(err, ErrOutOfOrder) {
			if t, err = m.newest(ctx, t); err == nil {
				continue
			}
		}
		ended, isEnd := errors.AsType[*EndedError](err)
		if err != nil && (!isEnd || ended.Gone || ended.Digest != "") {
			return err
		}
		// It is cancelled, by this request or by another, which may have stopped
		// here.
		if late := due.Check(); late != nil {
			return late
		}
		by := record{Kind: kindSpent, End: t.Seq + 1}
		if isEnd && ended.end > 0 {
			by.End = ended.end // the next record was spent too
		}
		switch {
		case t.Seq == 0:
		case last.Value.Upload == nil:
			// A client that has the bytes needs nothing but this record and those
			// before it in order to commit them: it must be spent, or the upload
			// continues.
			if failed := m.trySpend(ctx, t, last.Object.Tag, by); failed != nil {
				return failed
			}
		default:
			m.abort(ctx, *last.Value.Upload)
			if late := due.Check(); late != nil {
				return late
			}
			m.spend(ctx, t, last.Object.Tag, by)
		}
		return cmp.Or(due.Check(), err)
	}
}

// Committed returns the data of an upload that was committed, for a request that
// has no bytes of it. It reports ErrUnknown if the data isn't there (yet): the
// request that committed it did not complete it.
func (m *Manager) Committed(ctx context.Context, t Token, e *EndedError) (Content, error) {
	if e.upload == nil && e.end > 0 {
		_, tail, err := m.read(ctx, t.next(e.end))
		if err == nil {
			tail.Close()
			return Content{}, fmt.Errorf("upload: session %s: record %d is no end", t.ID, e.end)
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
	return m.completed(ctx, *e.upload, Content{Digest: e.Digest, Size: e.size, CRC32C: e.crc})
}

// completed returns c with its key if u was completed, and ErrUnknown otherwise.
func (m *Manager) completed(ctx context.Context, u drivers.Upload, c Content) (Content, error) {
	ctx, cancel := context.WithTimeout(ctx, envelope.SmallCallTimeout)
	defer cancel()
	o, err := m.cfg.Bucket.Stat(ctx, u.Key)
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
