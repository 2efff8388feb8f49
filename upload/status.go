package upload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// Status returns how many bytes of the upload are safe, and the token to continue
// from there. It returns ErrUnknown if the session has ended. It does not prolong
// the session.
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
// bytes of it are safe. It returns ErrUnknown if nothing was recorded under that
// id, or it has expired.
func (m *Manager) Find(ctx context.Context, repository, id string) (Token, int64, error) {
	t, size, err := m.Status(ctx, Token{ID: id, Repository: repository})
	switch {
	case err != nil:
		return t, 0, err
	case t.Seq == 0:
		return t, 0, fmt.Errorf("%w: nothing was recorded", ErrUnknown)
	default:
		return t, size, t.checkAge(m.cfg.SessionLifetime)
	}
}

// Cancel ends the upload, wherever it stands, and drops its parts. It returns
// ErrUnknown if the upload has ended already. After due it writes nothing.
func (m *Manager) Cancel(ctx context.Context, t Token, due deadline.Deadline) error {
	ctx, cancel := due.Context(ctx)
	defer cancel()
	for {
		var last envelope.Stored[sessionRecord]
		if t.Seq > 0 {
			var tail io.ReadCloser
			var err error
			if last, tail, err = m.read(ctx, t); err != nil {
				return err
			}
			tail.Close()
		}
		_, err := m.createNext(ctx, t, due, last.Value.cancelled(), drivers.Body{})
		if errors.Is(err, ErrOutOfOrder) {
			if t, err = m.newest(ctx, t); err == nil {
				continue
			}
		}
		ended, isEnd := errors.AsType[*EndedError](err)
		if err != nil && (!isEnd || ended.Gone || ended.Digest != "") {
			return err
		}
		// This request has cancelled the upload, or another one has, which may have
		// stopped here.
		end := t.Seq + 1
		if isEnd && ended.end > 0 {
			end = ended.end // the next record was spent too
		}
		return cmp.Or(m.free(ctx, t, last, end, due), err)
	}
}

// free frees what a session holds that was cancelled by its record number end; t
// names the record before, which is last.
func (m *Manager) free(ctx context.Context, t Token, last envelope.Stored[sessionRecord], end int, due deadline.Deadline) error {
	if err := due.Check(); err != nil {
		return err
	}
	by := sessionRecord{Kind: KindSpent, End: end}
	switch {
	case t.Seq == 0:
	case last.Value.Upload == nil:
		// A client that has the bytes needs nothing but this record and those
		// before it in order to commit them: it must be spent, or the upload
		// continues.
		if err := m.trySpend(ctx, t, last.Object.Tag, by); err != nil {
			return err
		}
	default:
		m.abort(ctx, *last.Value.Upload)
		if err := due.Check(); err != nil {
			return err
		}
		m.spend(ctx, t, last.Object.Tag, by)
	}
	return due.Check()
}
