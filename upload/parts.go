package upload

import (
	"context"
	"slices"
	"sync"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/upload/budget"
)

// parts are the parts of a Writer's upload, several of which are stored at
// once.
type parts struct {
	w     *Writer
	slots chan struct{}
	wg    sync.WaitGroup

	// before is the number of parts that the newest record knows of, and done
	// are those since, in order; a part under way has its number and size only.
	// The Writer appends, under mu; the length is the Writer's to read.
	before int
	done   []drivers.Part

	mu     sync.Mutex
	stored int          // how many of done are stored, from the first on, without a gap
	marks  map[int]mark // where the Writer stood after that many parts of the upload
	failed int          // lowest number of a part that could not be stored; 0 if none
	err    error        // of that one
}

// mark is a place in the upload that it can be set back to.
type mark struct {
	size   int64
	hashes hashState
	tail   bool // the tail belongs to it: its bytes are hashed
}

func (p *parts) init(w *Writer) {
	p.w = w
	p.slots = make(chan struct{}, w.m.cfg.ParallelParts)
	p.marks = map[int]mark{}
}

// add makes room for the next part, which ends where the Writer stands.
func (p *parts) add(size int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.before + len(p.done) + 1
	p.done = append(p.done, drivers.Part{Number: n, Size: size})
	return n
}

// mark notes where the Writer stands, with so many parts and, perhaps, its tail.
func (p *parts) mark(n int, tail bool) {
	state, err := p.w.hashes.state()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marks[n] = mark{p.w.size, state, tail}
	if err != nil {
		p.fail(n, err)
	}
}

func (p *parts) fail(n int, err error) {
	if p.failed == 0 || n < p.failed {
		p.failed, p.err = n, err
	}
}

// put stores body as the next part, and then releases buf, which holds body. It waits while as many parts as allowed are under way.
func (p *parts) put(buf *budget.Buffer, body drivers.Body) {
	n := p.add(body.Size)
	p.mark(n, false)
	buf.MarkSending()
	p.slots <- struct{}{}
	p.wg.Go(func() {
		defer func() { <-p.slots }()
		ctx, cancel := context.WithTimeout(p.w.store, storeTimeout)
		defer cancel()
		part, err := p.w.m.cfg.Bucket.PutPart(ctx, *p.w.upload, n, body)
		buf.Release()
		p.set(n, part, err)
	})
}

// putLast stores the last part, when no other is under way. If that fails it
// can be tried again.
func (p *parts) putLast(ctx context.Context, body drivers.Body) error {
	part, err := p.w.m.cfg.Bucket.PutPart(ctx, *p.w.upload, p.before+len(p.done)+1, body)
	if err == nil {
		p.set(p.add(body.Size), part, nil)
	}
	return err
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

// cutLike reports whether others have the sizes of these.
func (p *parts) cutLike(others []drivers.Part) bool {
	return slices.EqualFunc(p.done, others, func(a, b drivers.Part) bool { return a.Size == b.Size })
}

// load sets the parts: before of them are in records, and done are stored since.
func (p *parts) load(before int, done []drivers.Part) {
	p.before, p.done, p.stored = before, slices.Clone(done), len(done)
}

// failure is the error of the first part that could not be stored, so far.
func (p *parts) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// hasFailed reports whether a part could not be stored, so far.
func (p *parts) hasFailed() bool { return p.failure() != nil }

// wait until none is under way.
func (p *parts) wait() error {
	p.wg.Wait()
	return p.err
}

// rollback sets the Writer back to the end of the last part before the first
// one that wasn't stored, or to its record.
func (p *parts) rollback() error {
	m, ok := p.marks[p.failed-1]
	if !ok {
		base := p.w.base.Value
		m = mark{base.Offset, base.Hashes, false}
		p.load(p.before, nil)
	}
	p.done = p.done[:p.stored]
	p.failed, p.err = 0, nil
	p.w.size = m.size
	if !m.tail {
		p.w.releaseTail()
	}
	if m.size == 0 {
		p.w.hashes = newHashes(p.w.token.Algorithm)
		return nil
	}
	return p.w.hashes.restore(m.hashes)
}
