package upload

import (
	"context"
	"errors"
	"slices"
	"sync"
)

const (
	// segmentSize is the unit of memory, in bytes: the least that an upload
	// holds while its client sends.
	segmentSize = 64 << 10

	// smallShare is the part of the budget that is kept for bodies known to be
	// small, and listShare that for what is known of the parts of uploads.
	smallShare = 32
	listShare  = 16
)

// ErrTooMany is the error for an upload that is refused because too many others
// wait for memory. The client may try again later.
var ErrTooMany = errors.New("too many uploads wait for memory")

// memory hands out segments within a fixed budget.
//
// A request is granted if that leaves the reserve untouched. When it can't be,
// requests queue, and the buffer of the oldest waiter becomes the runner: it
// alone may eat into the reserve, until it is released, which is when its part
// is stored. The reserve holds the largest part, or what a streamed part needs
// (its first bytes, up to a segment more, and a segment of scratch), so the
// runner always gets what its part needs; storing a part needs no memory; so the
// queue always moves. While anyone waits, slow clients are cut off (client.go).
//
// Bodies known to be small have a budget of their own, and rarely wait.
type memory struct {
	reserve    int // segments
	maxWaiting int

	mu       sync.Mutex
	free     int // segments, the reserve among them
	small    int64
	lists    int64 // of allLists, what is left
	allLists int64
	spare    [][]byte
	queue    []*waiter
	runner   *buffer
	clients  map[*client]struct{}
	ticking  bool
	draining bool // every client is cut off
}

type waiter struct {
	buf     *buffer
	n       int
	granted chan struct{} // closed when the buffer has its n segments
}

// newMemory divides budget, in bytes; largest is the largest part.
func newMemory(budget, largest int64, maxWaiting int) *memory {
	small, lists := budget/smallShare, budget/listShare
	return &memory{
		reserve:    segmentsFor(largest) + 2,
		maxWaiting: maxWaiting,
		free:       int((budget - small - lists) / segmentSize),
		small:      small,
		lists:      lists,
		allLists:   lists,
		clients:    map[*client]struct{}{},
	}
}

func segmentsFor(n int64) int { return int((n + segmentSize - 1) / segmentSize) }

// grants reports whether buf may have n more segments now.
func (m *memory) grants(buf *buffer, n int) bool {
	return m.free-n >= m.reserve || m.runner == buf && m.free >= n
}

func (m *memory) give(buf *buffer, n int) {
	m.free -= n
	for range n {
		if k := len(m.spare); k > 0 {
			buf.segs = append(buf.segs, m.spare[k-1])
			m.spare = m.spare[:k-1]
		} else {
			buf.segs = append(buf.segs, make([]byte, segmentSize))
		}
	}
	buf.client.held += n
	buf.client.admitted = true
}

// serve grants what the queue asks for, in its order.
func (m *memory) serve() {
	for len(m.queue) > 0 {
		w := m.queue[0]
		if m.runner == nil && !m.grants(w.buf, w.n) {
			m.runner = w.buf
		}
		if !m.grants(w.buf, w.n) {
			return
		}
		m.give(w.buf, w.n)
		m.queue = m.queue[1:]
		close(w.granted)
	}
}

// wait gives buf n more segments, however long that takes.
func (m *memory) wait(ctx context.Context, buf *buffer, n int) error {
	m.mu.Lock()
	if m.grants(buf, n) && (len(m.queue) == 0 || m.runner == buf) {
		m.give(buf, n)
		m.mu.Unlock()
		return nil
	}
	if !buf.client.admitted && len(m.queue) >= m.maxWaiting {
		m.mu.Unlock()
		return ErrTooMany
	}
	w := &waiter{buf, n, make(chan struct{})}
	buf.client.pauseLocked()
	m.queue = append(m.queue, w)
	m.serve()
	m.watch()
	m.mu.Unlock()

	var err error
	select {
	case <-w.granted:
	case <-ctx.Done():
		err = context.Cause(ctx) // what is granted nevertheless is released with the buffer
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.queue, w); i >= 0 {
		m.queue = slices.Delete(m.queue, i, i+1)
		m.serve() // the next ones may need less
	}
	buf.client.resumeLocked()
	return err
}

// takeList accounts for n more bytes of lists of parts of an upload that has so
// many already, if there is room: what is known of an upload can't be sent to get
// memory back, so no upload waits with it. An upload whose lists are longer than
// all the room may have it for itself.
func (m *memory) takeList(n, have int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > m.lists && m.lists+have < m.allLists {
		return false
	}
	m.lists -= n
	return true
}

func (m *memory) giveList(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists += n
}

// buffer holds the bytes of one part, or what has come of it.
type buffer struct {
	client *client
	segs   [][]byte
	small  int64 // its first segment is from the budget of small bodies, and this long
	size   int64 // bytes in it

	// A part that is streamed needs a segment of scratch besides its first
	// bytes. It takes both at once: who holds bytes must not wait for memory in
	// order to send them.
	streams bool
	extra   int // segments that are not for bytes that stay

	// frontSegs hold bytes of earlier requests that come before those in segs.
	frontSegs [][]byte
	placed    int // how many of them are in use

	sending bool // all of it is on its way to the store
}

// space is where the next bytes go: a slice that is not empty. It may wait for
// memory.
func (b *buffer) space(ctx context.Context) ([]byte, error) {
	for b.room() == 0 { // what outgrows its memory may fill a segment
		if err := b.reserve(ctx, 1); err != nil {
			return nil, err
		}
		b.outgrow()
	}
	if b.small > 0 {
		return b.segs[0][b.size:], nil
	}
	return b.segs[b.size/segmentSize][b.size%segmentSize:], nil
}

// outgrow moves what turned out not to be small into the segment that was taken
// for it.
func (b *buffer) outgrow() {
	if b.small == 0 {
		return
	}
	m := b.client.m
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(b.segs[1], b.segs[0])
	b.segs = b.segs[1:]
	b.client.held--
	m.small += b.small
	b.small = 0
}

// reserve takes n segments at once, and the scratch with them if it is due.
func (b *buffer) reserve(ctx context.Context, n int) error {
	extra := 0
	if b.streams && b.extra == 0 {
		extra = 1
	}
	if err := b.client.m.wait(ctx, b, n+extra); err != nil {
		return err
	}
	b.extra += extra
	return nil
}

// reserveFront takes memory for n bytes that come before those in the buffer, all
// of it at once.
func (b *buffer) reserveFront(ctx context.Context, n int64) error {
	missing := segmentsFor(n) - (len(b.frontSegs) - b.placed)
	if missing <= 0 {
		return nil
	}
	if err := b.reserve(ctx, missing); err != nil {
		return err
	}
	at := len(b.segs) - missing
	b.frontSegs = append(b.frontSegs, b.segs[at:]...)
	b.segs = slices.Clip(b.segs[:at])
	return nil
}

// front returns whole segments for n bytes that come before those in the buffer.
func (b *buffer) front(ctx context.Context, n int64) ([][]byte, error) {
	if err := b.reserveFront(ctx, n); err != nil {
		return nil, err
	}
	space := b.frontSegs[b.placed:][:segmentsFor(n)]
	b.placed += len(space)
	return space, nil
}

// scratch is the segment for bytes that are not to stay.
func (b *buffer) scratch(ctx context.Context) ([]byte, error) {
	if b.extra == 0 { // all that it holds is from the budget of small bodies
		b.streams = true
		if err := b.reserve(ctx, 0); err != nil {
			return nil, err
		}
	}
	return b.segs[len(b.segs)-1], nil
}

// room is how many bytes more it can take without waiting.
func (b *buffer) room() int64 {
	if b.small > 0 {
		return b.small - b.size
	}
	return int64(len(b.segs)-b.extra)*segmentSize - b.size
}

// reserveSmall gives an empty buffer n bytes, at most a segment, from the budget
// of small bodies, if there is that much left.
func (b *buffer) reserveSmall(n int64) {
	m := b.client.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > min(m.small, segmentSize) {
		return
	}
	m.small -= n
	b.small = n
	b.segs = [][]byte{make([]byte, n)}
	b.client.held++
}

// bytes is what is in it, by segments.
func (b *buffer) bytes() [][]byte {
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

// markSending notes that the client has nothing more to do with what is in it.
func (b *buffer) markSending() {
	m := b.client.m
	m.mu.Lock()
	defer m.mu.Unlock()
	b.sending = true
}

// release gives the memory back, and ends the buffer's turn as runner.
func (b *buffer) release() {
	m := b.client.m
	m.mu.Lock()
	defer m.mu.Unlock()
	b.releaseLocked()
}

func (b *buffer) releaseLocked() {
	m := b.client.m
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
