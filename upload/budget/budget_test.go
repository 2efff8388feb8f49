package budget

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

const (
	KiB = 1 << 10
	MiB = 1 << 20
)

// take returns a buffer with n segments, which must be free, of a new client.
func take(t *testing.T, b *Budget, n int) *Buffer {
	t.Helper()
	buf := b.Join(func() {}).NewBuffer(false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := buf.Reserve(ctx, n); err != nil {
		t.Fatalf("Reserve(%d) with %d segments free, %d of them set aside, waits; want it not to", n, b.free, b.reserve)
	}
	return buf
}

func give(buf *Buffer) {
	buf.Release()
	buf.client.Leave()
}

// wanting is a buffer of a client that has asked for segments.
type wanting struct {
	*Buffer
	done bool // Reserve has returned err
	err  error
}

// want asks for n segments for a new client. It returns when the client has them,
// or waits. It must be called in a bubble.
func want(ctx context.Context, b *Budget, n int) *wanting {
	w := &wanting{Buffer: b.Join(func() {}).NewBuffer(false)}
	go func() {
		w.err = w.Reserve(ctx, n)
		w.done = true
	}()
	synctest.Wait()
	return w
}

// testBudget returns a budget of 29 segments, 5 of them set aside.
func testBudget() *Budget { return New(32*SegmentSize, 3*SegmentSize, 100) }

// wantIdle checks that b has all its memory back.
func wantIdle(t testing.TB, b *Budget) {
	t.Helper()
	if !b.IsIdle() {
		t.Errorf("Usage() = %+v, want that of a new budget", b.Usage())
	}
}

// TestOldestWaiterIsServedFirst checks that segments are granted in the order of
// the queue, and that the oldest waiter takes them from the reserve.
func TestOldestWaiterIsServedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		all := take(t, b, b.free-b.reserve)
		first := want(t.Context(), b, 1) // from the reserve: it is the runner
		if !first.done || b.runner != first.Buffer {
			t.Fatalf("first waiter: granted %v, runner %v, want both", first.done, b.runner == first.Buffer)
		}
		large, small := want(t.Context(), b, 3), want(t.Context(), b, 1)
		if large.done || small.done {
			t.Fatalf("while the runner has the reserve: granted %v and %v, want neither", large.done, small.done)
		}
		give(first.Buffer)
		synctest.Wait()
		if !large.done || small.done || b.runner != large.Buffer {
			t.Fatalf("after the runner's release: granted %v and %v, want the older waiter only", large.done, small.done)
		}
		late := want(t.Context(), b, 1)
		give(all)
		synctest.Wait()
		if !small.done || !late.done {
			t.Errorf("when memory is free again: granted %v and %v, want both", small.done, late.done)
		}
		for _, w := range []*wanting{large, small, late} {
			give(w.Buffer)
		}
		wantIdle(t, b)
	})
}

// TestGrantedTooLate grants a segment to a body that outgrows its small memory at
// the moment at which its request ends. The buffer gives both back.
func TestGrantedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		all := take(t, b, b.free-b.reserve)
		runner := want(t.Context(), b, b.reserve)
		buf := b.Join(func() {}).NewBuffer(false)
		buf.ReserveSmall(10)
		buf.size = 10
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		go func() { _, err = buf.Space(ctx) }()
		synctest.Wait()
		b.mu.Lock() // the waiter needs it in order to leave the queue
		cancel()
		runner.releaseLocked()
		b.mu.Unlock()
		synctest.Wait()
		if len(buf.segs) != 2 || err == nil {
			t.Fatalf("Space = %v with %d segments, want an error and 2 segments", err, len(buf.segs))
		}
		runner.client.Leave()
		give(buf)
		give(all)
		wantIdle(t, b)
	})
}

// TestStreamTakesItsScratchAtOnce checks that a stream waits for memory before it
// has any bytes, and not again.
func TestStreamTakesItsScratchAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		all := take(t, b, b.free-b.reserve-1) // one is left, too few for a stream
		other := want(t.Context(), b, b.reserve)
		streams := b.Join(func() {}).NewBuffer(true)
		got := make(chan int64)
		go func() {
			if _, err := streams.Space(t.Context()); err != nil {
				t.Error(err)
			}
			got <- streams.room()
		}()
		synctest.Wait()
		if len(streams.segs) > 0 {
			t.Errorf("a waiting stream holds %d segments, want 0", len(streams.segs))
		}
		give(other.Buffer)
		if room := <-got; room != SegmentSize {
			t.Errorf("a stream with memory has room for %d bytes, want %d", room, SegmentSize)
		}
		other = want(t.Context(), b, b.reserve) // nothing is left
		if _, err := streams.Scratch(t.Context()); err != nil || len(streams.segs) != 2 {
			t.Errorf("Scratch = %v, with %d segments, want the 2 segments that the buffer has", err, len(streams.segs))
		}
		give(streams)
		give(all)
		give(other.Buffer)
		wantIdle(t, b)
	})
}

// TestRunnersTakeTurns holds everything but the reserve forever. Each upload still
// gets its parts, in turn.
func TestRunnersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		all := take(t, b, b.free-b.reserve)
		var order []int
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for range 3 {
					buf := b.Join(func() {}).NewBuffer(false)
					for range 3 {
						if err := buf.Reserve(t.Context(), 1); err != nil {
							t.Error(err)
						}
						time.Sleep(time.Second)
					}
					order = append(order, i)
					give(buf)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		for i, got := range order {
			if got != i%20 {
				t.Fatalf("parts were filled in the order %v, want each upload in turn", order)
			}
		}
		give(all)
		wantIdle(t, b)
	})
}

// TestSegmentsAreGrantedTogether checks that a buffer that waits for several
// segments holds none of them.
func TestSegmentsAreGrantedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		all := take(t, b, b.free-b.reserve)
		runner := want(t.Context(), b, 2)
		free := b.free
		ctx, cancel := context.WithCancel(t.Context())
		tail := want(ctx, b, 3)
		if tail.done || len(tail.segs) > 0 || b.free != free {
			t.Fatalf("a buffer that waits for 3 segments has %d, with %d segments free, want 0 and %d", len(tail.segs), b.free, free)
		}
		cancel()
		synctest.Wait()
		if !errors.Is(tail.err, context.Canceled) || len(b.queue) > 0 {
			t.Errorf("cancelled Reserve = %v, with %d in the queue, want %v and 0", tail.err, len(b.queue), context.Canceled)
		}
		for _, buf := range []*Buffer{tail.Buffer, runner.Buffer, all} {
			give(buf)
		}
		wantIdle(t, b)
	})
}

// TestLeavingTheQueue checks that the next waiter, which needs less, is served
// when the first one gives up.
func TestLeavingTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		all := take(t, b, b.free-b.reserve-1)
		runner := want(t.Context(), b, 2)
		ctx, cancel := context.WithCancel(t.Context())
		large := want(ctx, b, 3)
		small := want(t.Context(), b, 1)
		if large.done || small.done {
			t.Fatalf("behind the runner: granted %v and %v, want neither", large.done, small.done)
		}
		give(all)
		all = take(t, b, 1)
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !small.done {
			t.Error("the next waiter was not granted its segment")
		}
		for _, buf := range []*Buffer{small.Buffer, large.Buffer, runner.Buffer, all} {
			give(buf)
		}
		wantIdle(t, b)
	})
}

func TestTooManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		b.maxWaiting = 2
		had, holder := take(t, b, 1), take(t, b, 1)
		had.Release() // its first part is stored
		all := take(t, b, b.free-b.reserve)
		runner := want(t.Context(), b, b.reserve)
		waiting := []*wanting{want(t.Context(), b, 1), want(t.Context(), b, 1)}
		if !runner.done || waiting[0].done || waiting[1].done {
			t.Fatalf("granted %v, %v and %v, want the runner only", runner.done, waiting[0].done, waiting[1].done)
		}
		refused := want(t.Context(), b, 1)
		if !errors.Is(refused.err, ErrTooMany) {
			t.Errorf("Reserve of a new client while two wait = %v, want %v", refused.err, ErrTooMany)
		}
		started := map[string]*wanting{
			"has memory": {Buffer: holder.client.NewBuffer(false)},
			"had memory": {Buffer: had.client.NewBuffer(false)},
		}
		for name, more := range started {
			go func() { more.err = more.Reserve(t.Context(), 1); more.done = true }()
			synctest.Wait()
			if more.done {
				t.Errorf("Reserve of a client that %s = %v, want it to wait", name, more.err)
			}
		}
		give(runner.Buffer)
		give(all)
		synctest.Wait()
		for name, more := range started {
			if !more.done || more.err != nil {
				t.Errorf("Reserve of a client that %s, when memory is free: done %v, %v, want success", name, more.done, more.err)
			}
			give(more.Buffer)
		}
		for _, buf := range []*Buffer{waiting[0].Buffer, waiting[1].Buffer, refused.Buffer, holder} {
			give(buf)
		}
		wantIdle(t, b)
	})
}

// TestSmallBodiesDoNotWait checks that small bodies get memory from their share
// while other clients hold everything else.
func TestSmallBodiesDoNotWait(t *testing.T) {
	b := testBudget()
	all := take(t, b, b.free-b.reserve)
	var bodies []*Buffer
	for range int(b.small / (10 * KiB)) {
		buf := b.Join(func() {}).NewBuffer(false)
		buf.ReserveSmall(10 * KiB)
		if buf.room() != 10*KiB {
			t.Fatalf("small body %d has room for %d bytes, want %d", len(bodies)+1, buf.room(), 10*KiB)
		}
		p, err := buf.Space(t.Context())
		if err != nil || int64(len(p)) != 10*KiB {
			t.Fatalf("Space = %d bytes, %v, want %d", len(p), err, 10*KiB)
		}
		bodies = append(bodies, buf)
	}
	buf := b.Join(func() {}).NewBuffer(false)
	buf.ReserveSmall(10 * KiB)
	if buf.room() != 0 {
		t.Errorf("past the share there is room for %d bytes, want 0", buf.room())
	}
	for _, buf := range append(bodies, buf, all) {
		give(buf)
	}
	wantIdle(t, b)
}

// TestSmallBodyOutgrows sends more bytes than were announced. The body moves to
// ordinary memory.
func TestSmallBodyOutgrows(t *testing.T) {
	for _, announced := range []int64{1, 100, SegmentSize - 1, SegmentSize} {
		b := New(64*MiB, 8*MiB, 1)
		buf := b.Join(func() {}).NewBuffer(false)
		buf.ReserveSmall(announced)
		data := make([]byte, announced+2*SegmentSize)
		_, _ = mathrand.NewChaCha8([32]byte{byte(announced)}).Read(data) // never fails
		for buf.size < int64(len(data)) {
			p, err := buf.Space(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			buf.size += int64(copy(p, data[buf.size:]))
		}
		if got := slices.Concat(buf.Segments()...); !slices.Equal(got, data) {
			t.Errorf("a body of %d bytes, of which %d were announced, has other bytes in its buffer", len(data), announced)
		}
		if want := segmentsFor(int64(len(data))); buf.client.held != want {
			t.Errorf("a body of %d bytes holds %d segments, want %d", len(data), buf.client.held, want)
		}
		give(buf)
		wantIdle(t, b)
	}
}
