package upload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// record creates the next record of the chain, of everything that came.
func (w *Writer) record(ctx context.Context) error {
	if err := w.holdsAll(); err != nil {
		return err
	}
	state, err := w.hashes.state()
	if err != nil {
		return err
	}
	r, raw := w.next()
	r.Hashes = state
	if err := r.check(w.token.Seq+1, raw.Size); err != nil {
		return err // no request could continue from it
	}
	s, err := w.m.createNext(ctx, w.token, w.due, r, raw)
	if w.opts.Repeat && errors.Is(err, ErrOutOfOrder) {
		return w.repeat(ctx, s, err)
	}
	if err != nil {
		w.lost(err)
		return err
	}
	w.advance(s)
	return nil
}

// next returns the next record and its raw bytes: what this request added, and
// what it takes over or repeats of the records before.
func (w *Writer) next() (record, drivers.Body) {
	from, raw := w.from, w.taken
	if newest := len(w.before.refs) - 1; from == len(w.before.refs) && w.repeats() {
		from, raw = newest, drivers.NewBody(w.small)
	}
	inPart := len(w.parts.done) > 0 // the tail of the earlier records, that is
	if inPart {
		raw = drivers.Body{}
	}
	raw = concat(raw, w.ownTail())
	r := record{Kind: kindOpen, Offset: w.size, CRC32C: raw.CRC32C, Refs: slices.Clone(w.before.refs[:from])}
	if inPart {
		for i := range r.Refs {
			r.Refs[i].Raw = 0
		}
		r.Refs = slices.DeleteFunc(r.Refs, func(f ref) bool { return f.Parts == 0 })
	}
	if w.upload != nil {
		r.Upload, r.Sizes = w.upload, w.sizes
		r.Parts = append(w.before.list(from), w.parts.done...)
	}
	if len(r.Refs) > 0 {
		r.PartsCRC = w.before.crc
		for _, p := range w.parts.done {
			r.PartsCRC = drivers.CombineCRC32C(r.PartsCRC, p.CRC32C, p.Size)
		}
	}
	return r, raw
}

// repeats reports whether the next record repeats the content of the newest one,
// because that is small, or because there are too many references. The latter
// happens only to a request that has created the newest record itself, which has
// no raw bytes then.
func (w *Writer) repeats() bool {
	if !w.before.has(w.token.Seq) || w.base.RawSize > int64(len(w.small)) && len(w.parts.done) == 0 {
		return false
	}
	return w.isSmall(w.size-w.base.Value.Offset) || len(w.before.refs) > maxRefs
}

// advance makes s the newest record, from which w continues.
func (w *Writer) advance(s envelope.Stored[record]) {
	w.own = false
	w.token = w.token.next(w.token.Seq + 1)
	w.follow(s)
}

// follow sets what w inherits from s, the token's record.
func (w *Writer) follow(s envelope.Stored[record]) {
	w.base, w.recorded = s, time.Now()
	w.before = inherit(w.token.Seq, s.Value, s.RawSize, s.Object.Tag)
	w.from, w.taken, w.rest, w.small = len(w.before.refs), drivers.Body{}, drivers.Body{}, nil
	w.parts.load(w.before.parts, nil)
}

// holdsAll reports drivers.ErrBusy if not all bytes that were hashed are stored or
// in memory. No record may claim them then.
func (w *Writer) holdsAll() error {
	have := w.before.size + w.inheritedTail() + w.ownTail().Size
	for _, p := range w.parts.done {
		have += p.Size
	}
	if have != w.size {
		return fmt.Errorf("upload: %d of %d bytes are no longer held: %w", w.size-have, w.size, drivers.ErrBusy)
	}
	return nil
}
