package budget

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestNoDeadlock runs uploads of all kinds on a small budget: slow ones, ones that
// stall forever, large tails, small bodies, streams. Each of them ends, the
// budget holds at every moment, and all memory is released.
func TestNoDeadlock(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) { runUploads(t, seed) })
		if t.Failed() {
			return
		}
	}
}

func runUploads(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	largest := 1 + rng.IntN(6)
	size := int64(8*largest+rng.IntN(8)) * SegmentSize
	b := New(size, int64(largest)*SegmentSize, 1000)
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	check := func() {
		if u := b.Usage(); u.Free < 0 || u.Small < 0 || u.Free+u.Held < allSegments(size) {
			t.Errorf("seed %d: Usage() = %+v, of %d segments", seed, u, allSegments(size))
		}
	}
	var wg sync.WaitGroup
	for range 5 + rng.IntN(60) {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 5))
		wg.Go(func() {
			a := &actor{rng: rng, check: check, cut: make(chan struct{}), pace: time.Duration(rng.IntN(3)) * time.Second}
			a.client = b.Join(sync.OnceFunc(func() { close(a.cut) }))
			defer a.client.Leave()
			for n := 1 + rng.IntN(4); n > 0 && a.part(ctx, t, 1+rng.IntN(largest)); n-- {
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		t.Fatalf("seed %d: uploads still wait after a day", seed)
	}
	wantIdle(t, b)
}

// actor is the client of one upload.
type actor struct {
	client *Client
	rng    *rand.Rand
	pace   time.Duration // for a segment; with more than 1 s the client is slow
	cut    chan struct{} // closed when the client is cut off
	check  func()        // checks the budget
}

// part fills a part of size segments, stores and releases it. It reports whether
// the upload can continue.
func (a *actor) part(ctx context.Context, t *testing.T, size int) bool {
	buf := a.client.NewBuffer(a.rng.IntN(2) == 0)
	defer buf.Release()
	switch a.rng.IntN(4) {
	case 0: // a tail is loaded whole
		if err := buf.Reserve(ctx, size); err != nil {
			t.Errorf("Reserve for a tail = %v, want success", err)
			return false
		}
	case 1:
		buf.ReserveSmall(1 + a.rng.Int64N(SegmentSize))
	}
	if !a.fill(ctx, t, buf, size) {
		return false
	}
	if buf.streams && buf.small == 0 && !a.wasCut() {
		if _, err := buf.Scratch(ctx); err != nil {
			t.Errorf("Scratch = %v, want success", err)
		}
	}
	a.check()
	a.client.Pause()
	time.Sleep(time.Duration(a.rng.IntN(20)) * time.Second) // the store
	buf.Release()
	a.client.Resume()
	return !a.wasCut()
}

// fill receives segments until buf has size of them, or the client is cut off.
func (a *actor) fill(ctx context.Context, t *testing.T, buf *Buffer, size int) bool {
	for len(buf.segs)-buf.extra < size {
		a.check()
		start := time.Now()
		if err := buf.Reserve(ctx, 1); err != nil || time.Since(start) > time.Hour {
			t.Errorf("Reserve = %v after %v, want success within an hour", err, time.Since(start))
			return false
		}
		buf.outgrow()
		pace := a.pace
		if a.rng.IntN(30) == 0 {
			pace = 5 * time.Hour // it stalls
		}
		select {
		case <-a.cut:
			return true
		case <-ctx.Done():
		case <-time.After(pace):
			a.client.Received(SegmentSize)
		}
	}
	return true
}

func (a *actor) wasCut() bool {
	select {
	case <-a.cut:
		return true
	default:
		return false
	}
}
