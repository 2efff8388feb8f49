package budget

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// SegmentSize is the unit of memory, in bytes: the least that a client holds
// while it sends.
const SegmentSize = 64 << 10

const (
	// smallShare is the share of the budget that is kept for bodies known to be
	// small, and listShare the share for the lists of parts.
	smallShare = 32
	listShare  = 16
)

// ErrTooMany is the error for a client that is refused because too many clients
// wait for memory. It may try again later.
var ErrTooMany = errors.New("too many uploads wait for memory")

// Budget hands out memory to clients. It is safe for concurrent use.
type Budget struct {
	size       int64 // bytes
	reserve    int   // segments
	maxWaiting int

	mu       sync.Mutex // guards what follows, and all fields of clients
	free     int        // segments, the reserve among them
	small    int64      // bytes that are left for small bodies
	lists    int64      // bytes that are left for lists of parts
	spare    [][]byte   // segments that were used and are free
	queue    []*waiter
	runner   *Buffer
	clients  map[*Client]struct{}
	ticking  bool // a timer of watch is running
	draining bool // every client is cut off
}

type waiter struct {
	buf     *Buffer
	n       int
	granted chan struct{} // closed when the buffer has its n segments
}

// New returns a Budget of size bytes, for parts of at most largest bytes: that
// must be at most an eighth of size. A client that holds nothing is refused
// with ErrTooMany while maxWaiting clients wait.
func New(size, largest int64, maxWaiting int) *Budget {
	return &Budget{
		size: size,
		// A streamed part needs up to a segment more, and a segment of scratch.
		reserve:    segmentsFor(largest) + 2,
		maxWaiting: maxWaiting,
		free:       allSegments(size),
		small:      size / smallShare,
		lists:      size / listShare,
		clients:    map[*Client]struct{}{},
	}
}

// allSegments returns the number of segments in a budget of size bytes.
func allSegments(size int64) int { return int((size - size/smallShare - size/listShare) / SegmentSize) }

func segmentsFor(n int64) int { return int((n + SegmentSize - 1) / SegmentSize) }

// grants reports whether buf may have n more segments now.
func (b *Budget) grants(buf *Buffer, n int) bool {
	return b.free-n >= b.reserve || b.runner == buf && b.free >= n
}

func (b *Budget) give(buf *Buffer, n int) {
	b.free -= n
	for range n {
		if k := len(b.spare); k > 0 {
			buf.segs = append(buf.segs, b.spare[k-1])
			b.spare = b.spare[:k-1]
		} else {
			buf.segs = append(buf.segs, make([]byte, SegmentSize))
		}
	}
	buf.client.held += n
	buf.client.admitted = true
}

// serve grants what the waiters want, in their order.
func (b *Budget) serve() {
	for len(b.queue) > 0 {
		w := b.queue[0]
		if b.runner == nil && !b.grants(w.buf, w.n) {
			b.runner = w.buf
		}
		if !b.grants(w.buf, w.n) {
			return
		}
		b.give(w.buf, w.n)
		b.queue = b.queue[1:]
		close(w.granted)
	}
}

// wait gives buf n more segments. It returns when buf has them, when ctx is done,
// or with ErrTooMany.
func (b *Budget) wait(ctx context.Context, buf *Buffer, n int) error {
	b.mu.Lock()
	if b.grants(buf, n) && (len(b.queue) == 0 || b.runner == buf) {
		b.give(buf, n)
		b.mu.Unlock()
		return nil
	}
	if !buf.client.admitted && len(b.queue) >= b.maxWaiting {
		b.mu.Unlock()
		return ErrTooMany
	}
	w := &waiter{buf, n, make(chan struct{})}
	buf.client.pause()
	b.queue = append(b.queue, w)
	b.serve()
	b.watch()
	b.mu.Unlock()

	var err error
	select {
	case <-w.granted:
	case <-ctx.Done():
		err = context.Cause(ctx) // segments that are granted anyway are released with the buffer
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.queue, w); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
		b.serve() // the next waiters may need less
	}
	buf.client.resume()
	return err
}

// Usage is a snapshot of a Budget.
type Usage struct {
	Free    int   // segments that no buffer holds, the reserve among them
	Reserve int   // segments that are set aside for the runner
	Held    int   // segments that buffers hold, those of small bodies among them
	Small   int64 // bytes that are left for small bodies
	Lists   int64 // bytes that are left for lists of parts
	Clients int
	Waiting int  // clients that wait for memory
	Runner  bool // there is a runner
}

// Usage returns how much of the budget is in use.
func (b *Budget) Usage() Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := Usage{Free: b.free, Reserve: b.reserve, Small: b.small, Lists: b.lists,
		Clients: len(b.clients), Waiting: len(b.queue), Runner: b.runner != nil}
	for c := range b.clients {
		u.Held += c.held
	}
	return u
}

// IsIdle reports whether b has no clients, and all its memory back.
func (b *Budget) IsIdle() bool {
	return b.Usage() == New(b.size, int64(b.reserve-2)*SegmentSize, 0).Usage()
}
