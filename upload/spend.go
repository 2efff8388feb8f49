package upload

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// largeTail is the size from which raw bytes that are no longer needed are worth
// a request to free them, in bytes.
const largeTail = 64 << 10

// Spend frees the records that this request continued from, once the blob is
// durable and linked. It comes last, and nothing is lost if it fails.
//
// If the content needed no record that ended the session, the newest record
// becomes the end, large or not. Otherwise it is spent if it is large. In a
// session of more than 64 records bytes were written more than once, and then
// the other large records of the tail are spent as well.
func (w *Writer) Spend(ctx context.Context, named digest.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.token.Seq == 0 || w.due.Check() != nil {
		return
	}
	by := record{Kind: kindCommitted, Offset: w.size, Digest: w.hashes.canonical()}
	if named != by.Digest {
		by.Named = named
	}
	whole := w.isWhole()
	if !whole {
		by.Kind, by.End = kindSpent, w.token.Seq+1
	}
	if whole || w.base.RawSize > largeTail {
		w.m.spend(ctx, w.token, w.base.Object.Tag, by)
	}
	if w.token.Seq <= maxRefs {
		return
	}
	var group errgroup.Group
	group.SetLimit(fetchAtOnce)
	for i, f := range w.before.refs {
		if tag := w.before.tags[i]; f.Raw > largeTail && f.Seq < w.token.Seq && tag != "" && w.due.Check() == nil {
			group.Go(func() error {
				w.m.spend(ctx, w.token.next(f.Seq), tag, by)
				return nil
			})
		}
	}
	_ = group.Wait() // it has none
}

// spend replaces a record that is no longer needed. If that fails the collector
// removes it: the record takes up space, and nothing in it is wrong.
func (m *Manager) spend(ctx context.Context, t Token, tag string, by record) {
	if err := m.trySpend(ctx, t, tag, by); err != nil {
		m.cfg.Log.WarnContext(ctx, "session record not spent", "upload", t.ID, "record", t.Seq, "error", err)
	}
}

// trySpend replaces a record that is no longer needed, unless another request
// has done so.
func (m *Manager) trySpend(ctx context.Context, t Token, tag string, by record) error {
	by.Repository, by.Started, by.Algorithm = t.Repository, t.Started, t.Algorithm
	_, err := envelope.Replace(ctx, m.cfg.Bucket, m.cfg.Layout.SessionRecord(t.ID, t.Seq), tag, by, drivers.Body{})
	if errors.Is(err, drivers.ErrChanged) {
		return nil
	}
	return err
}
