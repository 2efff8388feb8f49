package upload

import (
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/upload/budget"
)

// tail is the bytes past the last part, as far as they are in memory. The first
// of them may be from earlier records.
type tail struct {
	buf  *budget.Buffer // what this request has received; nil if nothing
	crc  uint32         // of the bytes in buf after the first skip
	skip int64          // bytes in buf that are in the newest record, which another request has created

	// The raw bytes of earlier records are in the memory of buf, in front of the
	// received ones.
	rest  drivers.Body // of the references before history.from, if a part or the end needs them
	taken drivers.Body // of the references from there on, which the next record takes over
}

// add records that p, the start of the buffer's space, was received.
func (t *tail) add(p []byte) {
	t.buf.Add(len(p))
	t.crc = drivers.UpdateCRC32C(t.crc, p)
}

// ownSize returns the number of bytes that this request has added.
func (t *tail) ownSize() int64 {
	if t.buf == nil {
		return 0
	}
	return t.buf.Size() - t.skip
}

// own returns the bytes that this request has added.
func (t *tail) own() drivers.Body {
	size := t.ownSize()
	if size == 0 {
		return drivers.Body{}
	}
	return drivers.Body{Segments: cutFront(t.buf.Segments(), t.skip, size), Size: size, CRC32C: t.crc}
}

// inherited returns the bytes of earlier records, in order.
func (t *tail) inherited() drivers.Body { return concat(t.rest, t.taken) }

// keepLast drops all but the last n bytes that this request has added: the newest
// record has the rest.
func (t *tail) keepLast(n int64) {
	t.skip += t.ownSize() - n
	t.crc = 0
	for _, p := range t.own().Segments {
		t.crc = drivers.UpdateCRC32C(t.crc, p)
	}
}

// release gives the memory back. The tail is empty then.
func (t *tail) release() {
	if t.buf != nil {
		t.buf.Release()
	}
	*t = tail{}
}

// cut returns n bytes of space from off, as slices of its segments.
func cut(space [][]byte, off, n int64) [][]byte {
	var out [][]byte
	for n > 0 {
		s := space[off/budget.SegmentSize][off%budget.SegmentSize:]
		s = s[:min(int64(len(s)), n)]
		out = append(out, s)
		off, n = off+int64(len(s)), n-int64(len(s))
	}
	return out
}

// cutFront returns n bytes of the segments, which have any lengths, after the
// first skip bytes.
func cutFront(segments [][]byte, skip, n int64) [][]byte {
	var out [][]byte
	for _, s := range segments {
		drop := min(skip, int64(len(s)))
		s, skip = s[drop:], skip-drop
		s = s[:min(n, int64(len(s)))]
		n -= int64(len(s))
		if len(s) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// concat returns the bytes of all bodies, in order.
func concat(bodies ...drivers.Body) drivers.Body {
	var all drivers.Body
	for _, b := range bodies {
		all.Segments = append(all.Segments, b.Segments...)
		all.Size += b.Size
		all.CRC32C = drivers.CombineCRC32C(all.CRC32C, b.CRC32C, b.Size)
	}
	return all
}
