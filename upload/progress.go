package upload

import (
	"fmt"
	"slices"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/upload/budget"
)

// history is what the records hold that the next record follows.
type history struct {
	token    Token // of the newest record
	base     envelope.Stored[sessionRecord]
	recorded time.Time // when the newest record was created or read
	before   inherited
	from     int    // index of the first reference that the next record takes over
	small    []byte // raw bytes of the newest record, kept because the next one may repeat them
}

// follow makes s the newest record.
func (h *history) follow(t Token, s envelope.Stored[sessionRecord]) {
	before := inherit(t.Seq, s.Value, s.RawSize, s.Object.Tag)
	*h = history{token: t, base: s, recorded: time.Now(), before: before, from: len(before.refs)}
}

// isSmall reports whether the content of the newest record is small compared
// with added more bytes, so that the next record repeats it.
func (h *history) isSmall(added, inlineMax int64) bool {
	return h.before.has(h.token.Seq) && h.before.refs[len(h.before.refs)-1].content() <= (added+inlineMax)/repeatShare
}

// progress is how far an upload has come: its history, and what this request has
// added. The loader, recorder, receiver and sealer of a Writer work on it. Its own
// methods compute, and send no request to the store.
type progress struct {
	*request
	history

	status status
	hashes hashes
	size   int64 // bytes so far, those of earlier requests included
	target target
	parts  *parts
	tail   tail
}

// follow makes s, the record of token t, the newest one. What this request has
// added before is no longer part of the progress, except for its tail.
func (p *progress) follow(t Token, s envelope.Stored[sessionRecord]) {
	p.history.follow(t, s)
	p.tail.rest, p.tail.taken = drivers.Body{}, drivers.Body{}
	p.parts.load(p.before.parts, nil)
}

// checkSize returns ErrTooLarge if length more bytes (-1 if that is not known) are
// too many.
func (p *progress) checkSize(length int64) error {
	if most := p.m.cfg.MaxBlobSize; most > 0 && max(length, 0) > most-p.size {
		return fmt.Errorf("%w: upload.Config.MaxBlobSize is %d bytes", ErrTooLarge, most)
	}
	if p.target.sizes.First == 0 || p.m.limits.Stream || length <= 0 {
		return nil
	}
	if most := p.target.sizes.capacity(p.m.limits.MaxParts); length > most-p.size {
		return fmt.Errorf("%w: the parts of this upload take %d bytes", ErrTooLarge, most)
	}
	return nil
}

// fixSizes fixes the sizes of the parts, unless they are fixed.
func (p *progress) fixSizes() (err error) {
	switch {
	case p.target.sizes.First > 0:
	case p.m.limits.Stream:
		p.target.sizes = sizes{First: max(p.m.cfg.PartSize, p.size), Largest: p.m.largest}
	default:
		p.target.sizes, err = chooseSizes(p.m.limits, p.m.cfg.PartSize, p.m.largest, p.size, p.opts.Length)
	}
	return err
}

// partSize returns the size of the part that is being filled, or 0 if it is not
// fixed.
func (p *progress) partSize() int64 {
	if p.target.sizes.First == 0 {
		return 0
	}
	return p.target.sizes.of(p.parts.count() + 1)
}

// inheritedTail returns the number of bytes of the tail that are in earlier
// records.
func (p *progress) inheritedTail() int64 {
	if len(p.parts.done) > 0 {
		return 0 // they are in a part
	}
	return p.before.tail
}

// tailSize returns the number of bytes past the last part, those of earlier
// requests included.
func (p *progress) tailSize() int64 { return p.inheritedTail() + p.tail.ownSize() }

// isLoaded reports whether the whole tail is in memory.
func (p *progress) isLoaded() bool {
	return p.inheritedTail() == p.tail.rest.Size+p.tail.taken.Size
}

// wholeTail returns the tail, as far as it is in memory.
func (p *progress) wholeTail() drivers.Body {
	if p.inheritedTail() == 0 {
		return p.tail.own()
	}
	return concat(p.tail.inherited(), p.tail.own())
}

// isFull reports whether the tail has the size of a part.
func (p *progress) isFull() bool {
	size := p.tailSize()
	return size > 0 && p.target.origin != dropped && size == p.partSize()
}

// buffer returns the buffer of the tail.
func (p *progress) buffer() *budget.Buffer {
	if p.tail.buf == nil {
		p.tail.buf = p.client.NewBuffer(p.streams())
		p.tail.crc, p.tail.skip = 0, 0
	}
	return p.tail.buf
}

// checksum returns the CRC-32C of all bytes.
func (p *progress) checksum() uint32 {
	t := p.wholeTail()
	return drivers.CombineCRC32C(p.parts.checksum(p.before.crc), t.CRC32C, t.Size)
}

// checkAllHeld returns drivers.ErrBusy if not all bytes that were hashed are stored
// or in memory. No record may claim them then.
func (p *progress) checkAllHeld() error {
	have := p.before.size + p.parts.size() + p.tailSize()
	if have != p.size {
		return fmt.Errorf("upload: %d of %d bytes are no longer held: %w", p.size-have, p.size, drivers.ErrBusy)
	}
	return nil
}

// nextRecord returns the next open record and its raw bytes: what this request
// has added, and what it takes over or repeats of earlier records.
func (p *progress) nextRecord() (sessionRecord, drivers.Body, error) {
	from, raw := p.from, p.tail.taken
	if newest := len(p.before.refs) - 1; from == len(p.before.refs) && p.repeatsNewest() {
		from, raw = newest, drivers.NewBody(p.small)
	}
	inPart := len(p.parts.done) > 0 // the tail of the earlier records is
	if inPart {
		raw = drivers.Body{}
	}
	raw = concat(raw, p.tail.own())
	r := sessionRecord{Kind: KindOpen, Offset: p.size, CRC32C: raw.CRC32C, Refs: slices.Clone(p.before.refs[:from])}
	if inPart {
		for i := range r.Refs {
			r.Refs[i].Raw = 0
		}
		r.Refs = slices.DeleteFunc(r.Refs, func(f ref) bool { return f.Parts == 0 })
	}
	if p.target.upload != nil {
		r.Upload, r.Sizes = p.target.upload, p.target.sizes
		r.Parts = append(p.before.list(from), p.parts.done...)
	}
	if len(r.Refs) > 0 {
		r.PartsCRC = p.parts.checksum(p.before.crc)
	}
	var err error
	r.Hashes, err = p.hashes.state()
	return r, raw, err
}

// repeatsNewest reports whether the next record repeats the content of the newest
// one, because that is small, or because there are too many references. The
// latter happens only to a request that has created the newest record itself,
// which has no raw bytes then.
func (p *progress) repeatsNewest() bool {
	if !p.before.has(p.token.Seq) || p.base.RawSize > int64(len(p.small)) && len(p.parts.done) == 0 {
		return false
	}
	return p.isSmall(p.size-p.base.Value.Offset, p.m.cfg.InlineMax) || len(p.before.refs) > maxRefs
}

// mark returns the place where the upload stands, with or without its tail.
func (p *progress) mark(tail bool) mark {
	state, err := p.hashes.state()
	return mark{p.size, state, tail, err}
}

// rollback sets the upload back to the end of the last part before the first one
// that could not be stored, or to the newest record.
func (p *progress) rollback() error {
	m, ok := p.parts.rollback()
	if !ok {
		m = mark{size: p.base.Value.Offset, hashes: p.base.Value.Hashes}
	}
	p.size = m.size
	if !m.tail {
		p.tail.release()
	}
	if m.size == 0 {
		p.hashes = newHashes(p.token.Algorithm)
		return nil
	}
	return p.hashes.restore(m.hashes)
}
