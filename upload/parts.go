package upload

import (
	"slices"
	"sync"

	"github.com/berthhq/berth/drivers"
)

// parts are the parts of one upload. Several of them are stored concurrently.
type parts struct {
	slots chan struct{}
	wg    sync.WaitGroup

	// before is the number of parts that the newest record and its references
	// hold, and done are the parts since, in order. A part that is being stored
	// has its number and size only. Only the goroutine of the request appends to
	// done, with mu held, so it may read the length without mu.
	before int
	done   []drivers.Part

	mu     sync.Mutex
	stored int          // number of parts in done that are stored, up to the first that is not
	marks  map[int]mark // by number of parts: the place where the upload stood after them
	failed int          // lowest number of a part that could not be stored; 0 if none
	err    error        // of that part
}

// mark is a place in the upload that it can be set back to.
type mark struct {
	size   int64
	hashes hashState
	tail   bool  // the tail belongs to it: its bytes are hashed
	err    error // why there are no hashes
}

func newParts(parallel int) *parts {
	return &parts{slots: make(chan struct{}, parallel), marks: map[int]mark{}}
}

// count returns the number of parts, those before the newest record included.
func (p *parts) count() int { return p.before + len(p.done) }

// size returns the number of bytes in the parts since the newest record.
func (p *parts) size() int64 {
	var size int64
	for _, d := range p.done {
		size += d.Size
	}
	return size
}

// checksum returns the CRC-32C of the bytes in all parts; before is that of the
// parts before the newest record.
func (p *parts) checksum(before uint32) uint32 { return checksum(before, p.done) }

// add appends a part that is not stored yet, and returns its number.
func (p *parts) add(size int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.count() + 1
	p.done = append(p.done, drivers.Part{Number: n, Size: size})
	return n
}

// setMark notes where the upload stands after n parts.
func (p *parts) setMark(n int, m mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marks[n] = m
	if m.err != nil {
		p.fail(n, m.err)
	}
}

func (p *parts) fail(n int, err error) {
	if p.failed == 0 || n < p.failed {
		p.failed, p.err = n, err
	}
}

// start stores the next part, which has size bytes and ends at m, by calling
// store on another goroutine. It waits while as many parts as allowed are being
// stored.
func (p *parts) start(size int64, m mark, store func(n int) (drivers.Part, error)) {
	n := p.add(size)
	p.setMark(n, m)
	p.slots <- struct{}{}
	p.wg.Go(func() {
		defer func() { <-p.slots }()
		part, err := store(n)
		p.set(n, part, err)
	})
}

// set notes the outcome of storing part n.
func (p *parts) set(n int, part drivers.Part, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.fail(n, err)
		return
	}
	p.done[n-p.before-1] = part
	for p.stored < len(p.done) && p.done[p.stored].Tag != "" {
		delete(p.marks, p.before+p.stored)
		p.stored++
	}
}

// cutLike reports whether others have the sizes of the parts since the newest
// record.
func (p *parts) cutLike(others []drivers.Part) bool {
	return slices.EqualFunc(p.done, others, func(a, b drivers.Part) bool { return a.Size == b.Size })
}

// load sets the parts: before of them are in records, and done are stored since.
func (p *parts) load(before int, done []drivers.Part) {
	p.before, p.done, p.stored = before, slices.Clone(done), len(done)
}

// failure returns the error of the first part that could not be stored, so far.
func (p *parts) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// hasFailed reports whether a part could not be stored, so far.
func (p *parts) hasFailed() bool { return p.failure() != nil }

// wait waits until no part is being stored, and returns the failure.
func (p *parts) wait() error {
	p.wg.Wait()
	return p.err
}

// rollback drops the first part that could not be stored, and all after it. It
// returns the mark at which the upload stands then; false if that is the newest
// record.
func (p *parts) rollback() (mark, bool) {
	m, ok := p.marks[p.failed-1]
	if !ok {
		p.stored = 0
	}
	p.done = p.done[:p.stored]
	p.failed, p.err = 0, nil
	return m, ok
}

// checksum returns the CRC-32C of bytes with the CRC-32C crc, followed by those in
// parts, in order.
func checksum(crc uint32, parts []drivers.Part) uint32 {
	for _, p := range parts {
		crc = drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	return crc
}
