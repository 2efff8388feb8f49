package upload

import (
	"bytes"
	"context"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// repeat is for a request that met s where it was to create its own record. If
// the bytes up to s are the first ones of this request, then the client has sent
// again what was recorded, because the answer was lost: repeat makes w continue
// from s with the rest of its bytes. Otherwise it returns lost.
//
// The bytes are compared by the states of the hashes. That needs the state of
// this request at the offset of s, and the bytes after it in memory. Both are
// there if s stands where this request ends, or anywhere past the last part that
// this request stored.
func (w *Writer) repeat(ctx context.Context, s envelope.Stored[record], lost error) error {
	rest, ok := w.restAfter(s)
	if !ok {
		w.lost(lost)
		return lost
	}
	w.abandon()
	own := w.ownTail()
	w.upload, w.sizes = s.Value.Upload, s.Value.Sizes
	w.advance(s)
	if rest == 0 {
		w.releaseTail()
		return nil
	}
	w.skip += own.Size - rest
	w.crc = 0
	for _, p := range w.ownTail().Segments {
		w.crc = drivers.UpdateCRC32C(w.crc, p)
	}
	return w.record(ctx)
}

// restAfter returns how many bytes of this request come after s. It reports
// whether the bytes before are those of s, and whether one record can hold the
// rest.
func (w *Writer) restAfter(s envelope.Stored[record]) (rest int64, ok bool) {
	r, own := s.Value, w.ownTail()
	rest = w.size - r.Offset
	if rest < 0 || rest > own.Size || r.check(w.token.Seq+1, s.RawSize) != nil {
		return 0, false
	}
	state, ok := w.stateAt(r.Offset)
	if !ok || !bytes.Equal(state.SHA256, r.Hashes.SHA256) || !bytes.Equal(state.SHA512, r.Hashes.SHA512) {
		return 0, false
	}
	if rest == 0 {
		return 0, true
	}
	in := inherit(w.token.Seq+1, r, s.RawSize, s.Object.Tag)
	part := w.partSize()
	if r.Sizes.First > 0 {
		part = r.Sizes.of(in.parts + 1)
	}
	return rest, len(in.refs) <= maxRefs && in.tail+rest <= part
}

// stateAt returns the state of the hashes at an offset that is not before the
// tail of this request, if it is known or can be computed.
func (w *Writer) stateAt(offset int64) (hashState, bool) {
	if offset == w.size {
		state, err := w.hashes.state()
		return state, err == nil
	}
	own := w.ownTail()
	start, h := w.size-own.Size, newHashes(w.token.Algorithm)
	switch m, ok := w.parts.marks[w.parts.before+len(w.parts.done)]; {
	case ok && m.size == start && start > 0:
		if h.restore(m.hashes) != nil {
			return hashState{}, false
		}
	case start == w.base.Value.Offset && start > 0:
		if h.restore(w.base.Value.Hashes) != nil {
			return hashState{}, false
		}
	case start != 0:
		return hashState{}, false
	}
	for _, p := range cutFront(own.Segments, 0, offset-start) {
		h.write(p)
	}
	state, err := h.state()
	return state, err == nil
}
