package upload

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// take is a buffer of its own client with n segments, which must be free.
func take(t *testing.T, m *memory, n int) *buffer {
	t.Helper()
	b := &buffer{client: m.newClient(func() {})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.reserve(ctx, n); err != nil {
		t.Fatalf("reserve(%d) with %d segments free, %d of them set aside: it waits", n, m.free, m.reserve)
	}
	return b
}

func give(b *buffer) {
	b.release()
	b.client.leave()
}

// wanting is a buffer that waits for n segments.
type wanting struct {
	*buffer
	done bool
	err  error
}

// want begins to wait, and returns when it does. It is called in a bubble.
func want(ctx context.Context, m *memory, n int) *wanting {
	w := &wanting{buffer: &buffer{client: m.newClient(func() {})}}
	go func() {
		w.err = w.reserve(ctx, n)
		w.done = true
	}()
	synctest.Wait()
	return w
}

// testMemory has 29 segments, 5 of them set aside.
func testMemory() (m *memory, budget int64) {
	budget = 32 * segmentSize
	return newMemory(budget, 3*segmentSize, 100), budget
}

func TestMemoryIsGrantedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, budget := testMemory()
		all := take(t, m, m.free-m.reserve)
		first := want(t.Context(), m, 1) // from the reserve: it is the runner
		if !first.done || m.runner != first.buffer {
			t.Fatalf("the first one to wait: granted %v, runner %v; want both", first.done, m.runner == first.buffer)
		}
		large, small := want(t.Context(), m, 3), want(t.Context(), m, 1)
		if large.done || small.done {
			t.Fatalf("granted %v and %v while the runner has the reserve, want neither", large.done, small.done)
		}
		give(first.buffer)
		synctest.Wait()
		if !large.done || small.done || m.runner != large.buffer {
			t.Fatalf("after the runner: granted %v and %v, want the older one", large.done, small.done)
		}
		late := want(t.Context(), m, 1)
		give(all)
		synctest.Wait()
		if !small.done || !late.done {
			t.Errorf("with memory free again: granted %v and %v, want both", small.done, late.done)
		}
		for _, w := range []*wanting{large, small, late} {
			give(w.buffer)
		}
		wantAllFree(t, m, budget)
	})
}

// TestGrantedTooLate: what outgrows its small memory is granted a segment just
// when its request ends. It gives both back.
func TestGrantedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, budget := testMemory()
		all := take(t, m, m.free-m.reserve)
		runner := want(t.Context(), m, m.reserve)
		b := &buffer{client: m.newClient(func() {})}
		b.reserveSmall(10)
		b.size = 10
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		go func() { _, err = b.space(ctx) }()
		synctest.Wait()
		m.mu.Lock() // which it needs in order to stop waiting
		cancel()
		runner.releaseLocked()
		m.mu.Unlock()
		synctest.Wait()
		if len(b.segs) != 2 || err == nil {
			t.Fatalf("it was not granted too late: %d segments, %v", len(b.segs), err)
		}
		runner.client.leave()
		give(b)
		give(all)
		wantAllFree(t, m, budget)
	})
}

// TestStreamTakesItsScratchAtOnce: who streams waits before it has any bytes,
// and not again.
func TestStreamTakesItsScratchAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, budget := testMemory()
		all := take(t, m, m.free-m.reserve-1) // one is left, too few for a stream
		other := want(t.Context(), m, m.reserve)
		streams := &buffer{client: m.newClient(func() {}), streams: true}
		got := make(chan int64)
		go func() {
			if _, err := streams.space(t.Context()); err != nil {
				t.Error(err)
			}
			got <- streams.room()
		}()
		synctest.Wait()
		if len(streams.segs) > 0 {
			t.Errorf("it holds %d segments while it waits, want none", len(streams.segs))
		}
		give(other.buffer)
		if room := <-got; room != segmentSize {
			t.Errorf("it has room for %d bytes, want %d", room, segmentSize)
		}
		other = want(t.Context(), m, m.reserve) // nothing is left
		if _, err := streams.scratch(t.Context()); err != nil || len(streams.segs) != 2 {
			t.Errorf("scratch = %v, with %d segments, want those two that it has", err, len(streams.segs))
		}
		give(streams)
		give(all)
		give(other.buffer)
		wantAllFree(t, m, budget)
	})
}

// TestRunnersTakeTurns: everything that is not set aside is held for good, and
// yet each upload gets its part, one after the other.
func TestRunnersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, budget := testMemory()
		all := take(t, m, m.free-m.reserve)
		var order []int
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for range 3 {
					b := &buffer{client: m.newClient(func() {})}
					for range 3 {
						if err := b.reserve(t.Context(), 1); err != nil {
							t.Error(err)
						}
						time.Sleep(time.Second)
					}
					order = append(order, i)
					give(b)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		for i, got := range order {
			if got != i%20 {
				t.Fatalf("the parts were filled in the order %v, want each in its turn", order)
			}
		}
		give(all)
		wantAllFree(t, m, budget)
	})
}

// TestTailsAreLoadedWhole: whoever waits for several segments has none of them
// meanwhile.
func TestTailsAreLoadedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, budget := testMemory()
		all := take(t, m, m.free-m.reserve)
		runner := want(t.Context(), m, 2)
		free := m.free
		ctx, cancel := context.WithCancel(t.Context())
		tail := want(ctx, m, 3)
		if tail.done || len(tail.segs) > 0 || m.free != free {
			t.Fatalf("a tail of 3 segments has %d, with %d of %d free", len(tail.segs), m.free, free)
		}
		cancel()
		synctest.Wait()
		if !errors.Is(tail.err, context.Canceled) || len(m.queue) > 0 {
			t.Errorf("cancelled reserve = %v, %d in the queue; want %v and none", tail.err, len(m.queue), context.Canceled)
		}
		for _, b := range []*buffer{tail.buffer, runner.buffer, all} {
			give(b)
		}
		wantAllFree(t, m, budget)
	})
}

// TestLeavingTheQueueLetsOthersPass: whoever waited behind may need less.
func TestLeavingTheQueueLetsOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, budget := testMemory()
		all := take(t, m, m.free-m.reserve-1)
		runner := want(t.Context(), m, 2)
		ctx, cancel := context.WithCancel(t.Context())
		large := want(ctx, m, 3)
		small := want(t.Context(), m, 1)
		if large.done || small.done {
			t.Fatalf("granted %v and %v, want neither", large.done, small.done)
		}
		give(all)
		all = take(t, m, 1) // so that there is room for what runs ahead
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !small.done {
			t.Error("the one behind waits still")
		}
		for _, b := range []*buffer{small.buffer, large.buffer, runner.buffer, all} {
			give(b)
		}
		wantAllFree(t, m, budget)
	})
}

func TestTooManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, budget := testMemory()
		m.maxWaiting = 2
		had, holder := take(t, m, 1), take(t, m, 1)
		had.release() // its part is stored, and its body goes on
		all := take(t, m, m.free-m.reserve)
		runner := want(t.Context(), m, m.reserve)
		waiting := []*wanting{want(t.Context(), m, 1), want(t.Context(), m, 1)}
		if !runner.done || waiting[0].done || waiting[1].done {
			t.Fatal("want the runner served, and two to wait")
		}
		refused := want(t.Context(), m, 1)
		if !errors.Is(refused.err, ErrTooMany) {
			t.Errorf("a new body when two wait = %v, want %v", refused.err, ErrTooMany)
		}
		begun := map[string]*wanting{
			"has memory": {buffer: &buffer{client: holder.client}},
			"had memory": {buffer: &buffer{client: had.client}},
		}
		for name, more := range begun {
			go func() { more.err = more.reserve(t.Context(), 1); more.done = true }()
			synctest.Wait()
			if more.done {
				t.Errorf("a body that %s already = %v, want it to wait", name, more.err)
			}
		}
		give(runner.buffer)
		give(all)
		synctest.Wait()
		for name, more := range begun {
			if !more.done || more.err != nil {
				t.Errorf("a body that %s, when there is memory again = %v, %v, want success", name, more.done, more.err)
			}
			give(more.buffer)
		}
		for _, b := range []*buffer{waiting[0].buffer, waiting[1].buffer, refused.buffer, holder} {
			give(b)
		}
		wantAllFree(t, m, budget)
	})
}

// TestSmallBodiesHaveMemoryOfTheirOwn: they don't wait as long as it lasts,
// whoever holds everything else.
func TestSmallBodiesHaveMemoryOfTheirOwn(t *testing.T) {
	m, budget := testMemory()
	all := take(t, m, m.free-m.reserve)
	var bodies []*buffer
	for range int(m.small / (10 * kiB)) {
		b := &buffer{client: m.newClient(func() {})}
		b.reserveSmall(10 * kiB)
		if b.room() != 10*kiB {
			t.Fatalf("small body %d has room for %d bytes, want %d", len(bodies)+1, b.room(), 10*kiB)
		}
		p, err := b.space(t.Context())
		if err != nil || int64(len(p)) != 10*kiB {
			t.Fatalf("space = %d bytes, %v, want %d", len(p), err, 10*kiB)
		}
		bodies = append(bodies, b)
	}
	b := &buffer{client: m.newClient(func() {})}
	b.reserveSmall(10 * kiB)
	if b.room() != 0 {
		t.Errorf("past the budget there is room for %d bytes more", b.room())
	}
	for _, b := range append(bodies, b, all) {
		give(b)
	}
	wantAllFree(t, m, budget)
}

// TestSmallBodyOutgrows: a body that is longer than it said moves to ordinary
// memory, whatever it said.
func TestSmallBodyOutgrows(t *testing.T) {
	for _, said := range []int64{1, 100, segmentSize - 1, segmentSize} {
		m := newMemory(64*miB, 8*miB, 1)
		b := &buffer{client: m.newClient(func() {})}
		b.reserveSmall(said)
		data := randomBytes(uint64(said), said+2*segmentSize)
		for b.size < int64(len(data)) {
			p, err := b.space(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b.size += int64(copy(p, data[b.size:]))
		}
		if got := slices.Concat(b.bytes()...); !slices.Equal(got, data) {
			t.Errorf("a body that said %d bytes and had %d holds others", said, len(data))
		}
		if want := segmentsFor(int64(len(data))); b.client.held != want {
			t.Errorf("it is said to hold %d segments, want %d", b.client.held, want)
		}
		give(b)
		wantAllFree(t, m, 64*miB)
	}
}

// TestMemoryNeverDeadlocks lets uploads of all kinds loose on a small memory:
// slow ones, ones that stall for good, large tails, small bodies, those that
// take scratch segments. Each of them ends, the budget holds at every moment,
// and everything is given back.
func TestMemoryNeverDeadlocks(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rng := mathrand.New(mathrand.NewPCG(seed, 3))
			largest := 1 + rng.IntN(6)
			budget := int64(largestShare*largest+rng.IntN(8)) * segmentSize
			m := newMemory(budget, int64(largest)*segmentSize, 1000)
			ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
			defer cancel()
			check := func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				held := 0
				for c := range m.clients {
					held += c.held
				}
				total := int((budget - budget/smallShare - budget/listShare) / segmentSize)
				if m.free < 0 || m.small < 0 || m.free+held < total {
					t.Errorf("seed %d: %d segments free and %d held of %d, %d bytes for small bodies", seed, m.free, held, total, m.small)
				}
			}
			var wg sync.WaitGroup
			for range 5 + rng.IntN(60) {
				own := mathrand.New(mathrand.NewPCG(rng.Uint64(), 5))
				wg.Go(func() { hold(ctx, t, m, own, largest, check) })
			}
			wg.Wait()
			if ctx.Err() != nil {
				t.Fatalf("seed %d: after a day there are uploads that wait", seed)
			}
			wantAllFree(t, m, budget)
		})
		if t.Failed() {
			return
		}
	}
}

// hold is one upload: some parts, each filled, stored and given back.
func hold(ctx context.Context, t *testing.T, m *memory, rng *mathrand.Rand, largest int, check func()) {
	cut := make(chan struct{})
	c := m.newClient(sync.OnceFunc(func() { close(cut) }))
	defer c.leave()
	pace := time.Duration(rng.IntN(3)) * time.Second // for a segment; 1 s is fast enough
	for range 1 + rng.IntN(4) {
		b := &buffer{client: c, streams: rng.IntN(2) == 0}
		size := 1 + rng.IntN(largest)
		switch rng.IntN(4) {
		case 0:
			if b.reserve(ctx, size) != nil { // a tail
				t.Error("a tail waits for good")
				return
			}
		case 1:
			b.reserveSmall(1 + rng.Int64N(segmentSize))
		}
	filling:
		for len(b.segs)-b.extra < size {
			check()
			began := time.Now()
			if err := b.reserve(ctx, 1); err != nil || time.Since(began) > time.Hour {
				t.Errorf("reserve after %v = %v, want success within an hour", time.Since(began), err)
				b.release()
				return
			}
			b.outgrow()
			client := pace
			if rng.IntN(30) == 0 {
				client = 5 * time.Hour // it stalls
			}
			select {
			case <-cut:
				break filling
			case <-ctx.Done():
			case <-time.After(client):
				c.received(segmentSize)
			}
		}
		if b.streams && b.small == 0 && !wasCut(cut) {
			if _, err := b.scratch(ctx); err != nil {
				t.Error("a stream waits for good")
			}
		}
		check()
		c.pause()
		time.Sleep(time.Duration(rng.IntN(20)) * time.Second) // the store
		b.release()
		c.resume()
		if wasCut(cut) {
			return
		}
	}
}

func wasCut(cut <-chan struct{}) bool {
	select {
	case <-cut:
		return true
	default:
		return false
	}
}
