package budget

import (
	"context"
	"slices"
)

// Buffer holds the bytes of one part, or as many of them as the client has sent.
// One goroutine may use it at a time.
type Buffer struct {
	client *Client
	segs   [][]byte
	small  int64 // if not 0, the first segment is from the share of small bodies, and has this length
	size   int64 // bytes in the buffer

	// A part that is streamed needs a segment of scratch besides its first
	// bytes. The buffer takes both together, because a client that holds bytes
	// must not wait for memory in order to send them.
	streams bool
	extra   int // segments of scratch

	// frontSegs hold bytes of earlier requests that come before those in segs.
	frontSegs [][]byte
	placed    int // how many of them are in use

	sending bool // the part is being stored
}

// NewBuffer returns an empty buffer. If streams is true, the store reads the part
// while the client sends it, and the buffer takes a segment of scratch together
// with its first segment.
func (c *Client) NewBuffer(streams bool) *Buffer { return &Buffer{client: c, streams: streams} }

// Size returns the number of bytes in the buffer, without those in front.
func (b *Buffer) Size() int64 { return b.size }

// Streams reports whether the buffer is for a part that is streamed.
func (b *Buffer) Streams() bool { return b.streams }

// IsEmpty reports whether the buffer has no memory of its own.
func (b *Buffer) IsEmpty() bool { return len(b.segs) == 0 }

// IsSmallFull reports whether the buffer has its memory from ReserveSmall, and
// that memory is full.
func (b *Buffer) IsSmallFull() bool { return b.small > 0 && b.room() == 0 }

// Add records that the first n bytes of the slice that Space returned are in use.
func (b *Buffer) Add(n int) { b.size += int64(n) }

// Reset drops the bytes in the buffer and keeps its memory.
func (b *Buffer) Reset() { b.size = 0 }

// Space returns a slice for the next bytes, which is not empty. It may wait for
// memory.
func (b *Buffer) Space(ctx context.Context) ([]byte, error) {
	for b.room() == 0 {
		if err := b.Reserve(ctx, 1); err != nil {
			return nil, err
		}
		b.outgrow()
	}
	if b.small > 0 {
		return b.segs[0][b.size:], nil
	}
	return b.segs[b.size/SegmentSize][b.size%SegmentSize:], nil
}

// outgrow moves the bytes of a body that was not small after all into the segment
// that was taken for it.
func (b *Buffer) outgrow() {
	if b.small == 0 {
		return
	}
	m := b.client.budget
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(b.segs[1], b.segs[0])
	b.segs = b.segs[1:]
	b.client.held--
	m.small += b.small
	b.small = 0
}

// Reserve takes n segments together, and with the first ones of a stream a segment
// of scratch. It may wait for memory, until ctx is done.
func (b *Buffer) Reserve(ctx context.Context, n int) error {
	extra := 0
	if b.streams && b.extra == 0 {
		extra = 1
	}
	if err := b.client.budget.wait(ctx, b, n+extra); err != nil {
		return err
	}
	b.extra += extra
	return nil
}

// ReserveFront takes memory, in one step, for n bytes that come before those in the
// buffer. Memory that was reserved earlier and that Front has not returned counts.
// It may wait.
func (b *Buffer) ReserveFront(ctx context.Context, n int64) error {
	missing := segmentsFor(n) - (len(b.frontSegs) - b.placed)
	if missing <= 0 {
		return nil
	}
	if err := b.Reserve(ctx, missing); err != nil {
		return err
	}
	at := len(b.segs) - missing
	b.frontSegs = append(b.frontSegs, b.segs[at:]...)
	b.segs = slices.Clip(b.segs[:at])
	return nil
}

// Front returns whole segments for n bytes that come before those in the buffer.
// It may wait for memory.
func (b *Buffer) Front(ctx context.Context, n int64) ([][]byte, error) {
	if err := b.ReserveFront(ctx, n); err != nil {
		return nil, err
	}
	space := b.frontSegs[b.placed:][:segmentsFor(n)]
	b.placed += len(space)
	return space, nil
}

// ReturnFront takes back what the last Front returned. The memory stays with the
// buffer, for the next Front.
func (b *Buffer) ReturnFront(space [][]byte) { b.placed -= len(space) }

// Scratch returns a segment for bytes that do not stay in the buffer. It waits for
// memory only if all that the buffer holds is from the share of small bodies.
func (b *Buffer) Scratch(ctx context.Context) ([]byte, error) {
	if b.extra == 0 {
		b.streams = true
		if err := b.Reserve(ctx, 0); err != nil {
			return nil, err
		}
	}
	return b.segs[len(b.segs)-1], nil
}

// room returns the number of bytes that fit into the buffer without waiting.
func (b *Buffer) room() int64 {
	if b.small > 0 {
		return b.small - b.size
	}
	return int64(len(b.segs)-b.extra)*SegmentSize - b.size
}

// ReserveSmall gives an empty buffer n bytes from the share of small bodies, if n
// is at most SegmentSize and that much is left.
func (b *Buffer) ReserveSmall(n int64) {
	m := b.client.budget
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > min(m.small, SegmentSize) {
		return
	}
	m.small -= n
	b.small = n
	b.segs = [][]byte{make([]byte, n)}
	b.client.held++
}

// Segments returns the bytes in the buffer.
func (b *Buffer) Segments() [][]byte {
	var out [][]byte
	left := b.size
	for _, s := range b.segs {
		if left <= 0 {
			break
		}
		n := min(left, int64(len(s)))
		out = append(out, s[:n])
		left -= n
	}
	return out
}

// MarkSending records that the client has sent all of the part. If it is the runner,
// it may be silent from now on.
func (b *Buffer) MarkSending() {
	m := b.client.budget
	m.mu.Lock()
	defer m.mu.Unlock()
	b.sending = true
}

// Release gives all memory back, and ends the buffer's turn as runner. The buffer
// is empty then.
func (b *Buffer) Release() {
	m := b.client.budget
	m.mu.Lock()
	defer m.mu.Unlock()
	b.releaseLocked()
}

func (b *Buffer) releaseLocked() {
	m := b.client.budget
	b.client.held -= len(b.segs) + len(b.frontSegs)
	segs := b.segs
	if b.small > 0 {
		m.small += b.small
		segs = segs[1:]
	}
	segs = slices.Concat(segs, b.frontSegs)
	m.free += len(segs)
	m.spare = append(m.spare, segs...)
	b.segs, b.small, b.size, b.extra, b.sending = nil, 0, 0, 0, false
	b.frontSegs, b.placed = nil, 0
	if m.runner == b {
		m.runner = nil
	}
	m.serve()
}
