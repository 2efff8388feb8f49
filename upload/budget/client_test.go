package budget

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlowClients checks that a client is slow below 64 KiB/s over 10 s, and that
// paused time does not count.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		for _, tt := range []struct {
			rate    int64 // bytes in each second
			seconds int
			want    bool
		}{
			{0, 9, false},
			{0, 10, true},
			{63 * KiB, 9, false},
			{63 * KiB, 10, true},
			{63 * KiB, 25, true},
			{64 * KiB, 25, false},
			{MiB, 25, false},
		} {
			c := b.Join(func() {})
			buf := c.NewBuffer(false)
			if err := buf.Reserve(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			for range tt.seconds {
				time.Sleep(time.Second)
				if tt.rate > 0 {
					c.Received(int(tt.rate))
				}
			}
			isSlow := func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return c.isSlow(time.Now())
			}
			if got := isSlow(); got != tt.want {
				t.Errorf("after %d s at %d bytes/s: isSlow = %v, want %v", tt.seconds, tt.rate, got, tt.want)
			}
			c.Pause()
			time.Sleep(time.Hour)
			if isSlow() {
				t.Errorf("%d bytes/s, paused: isSlow = true, want false", tt.rate)
			}
			c.Resume()
			if got := isSlow(); got != tt.want {
				t.Errorf("%d bytes/s, after a pause of an hour: isSlow = %v, want %v as before", tt.rate, got, tt.want)
			}
			time.Sleep(20 * time.Second)
			if !isSlow() {
				t.Errorf("%d bytes/s, after 20 s of silence: isSlow = false, want true", tt.rate)
			}
			buf.Release()
			if isSlow() {
				t.Errorf("%d bytes/s, without memory: isSlow = true, want false", tt.rate)
			}
			c.Leave()
		}
	})
}

// TestIdlestFirst checks that slow clients are cut off in the order of their last
// bytes.
func TestIdlestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		var order []int
		for i := range 4 {
			c := b.Join(func() { order = append(order, i) })
			buf := c.NewBuffer(false)
			if err := buf.Reserve(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Duration(i*7%4)*time.Second+time.Millisecond, func() { c.Received(1) })
		}
		all := take(t, b, b.free-b.reserve)
		all.client.Pause() // it is being stored
		time.Sleep(8 * time.Second)
		want(t.Context(), b, b.reserve)
		b.runner.client.Pause()
		want(t.Context(), b, 1)
		time.Sleep(3500 * time.Millisecond)
		b.mu.Lock()
		b.queue = nil // ends the watch
		b.mu.Unlock()
		if len(order) < 4 || order[0] != 0 || order[1] != 3 || order[2] != 2 || order[3] != 1 {
			t.Errorf("clients were cut off in the order %v, want 0, 3, 2, 1", order)
		}
	})
}

// TestPausesNest checks that a paused client is not slow, even if it has waited for
// memory in the meantime, which pauses it too.
func TestPausesNest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBudget()
		var cut atomic.Bool
		buf := b.Join(func() { cut.Store(true) }).NewBuffer(false)
		all := take(t, b, b.free-b.reserve)
		runner := want(t.Context(), b, b.reserve)
		buf.client.Pause()
		granted := make(chan error)
		go func() { granted <- buf.Reserve(t.Context(), 2) }()
		synctest.Wait()
		all.client.Pause()
		give(runner.Buffer)
		if err := <-granted; err != nil {
			t.Fatal(err)
		}
		behind := want(t.Context(), b, b.reserve)
		for _, paused := range []bool{true, false} {
			time.Sleep(time.Minute)
			if got := cut.Load(); got == paused {
				t.Errorf("paused %v: cut off %v, want the opposite", paused, got)
			}
			if paused {
				buf.client.Resume()
			}
		}
		give(buf)
		synctest.Wait()
		give(behind.Buffer)
		give(all)
		wantIdle(t, b)
	})
}

// TestLists checks that lists of parts have a share of their own, and that a list
// that is larger than the share is admitted only alone.
func TestLists(t *testing.T) {
	b := testBudget()
	share := b.Usage().Lists
	first, second := b.Join(func() {}), b.Join(func() {})
	for _, tt := range []struct {
		name   string
		client *Client
		n      int64
		want   bool
	}{
		{"half of the share", first, share / 2, true},
		{"more than the rest", second, share, false},
		{"the rest", second, share - share/2, true},
		{"more, while another client has a list", second, 1, false},
	} {
		if got := tt.client.ReserveList(tt.n); got != tt.want {
			t.Errorf("ReserveList of %s = %v, want %v", tt.name, got, tt.want)
		}
	}
	first.Leave()
	if !second.ReserveList(10*share) || second.ReserveList(1) != true {
		t.Error("ReserveList of more than the share, without other lists = false, want true")
	}
	if third := b.Join(func() {}); third.ReserveList(1) {
		t.Error("ReserveList beside a list that is larger than the share = true, want false")
	} else {
		third.Leave()
	}
	second.ReleaseList(10 * share)
	second.Leave()
	wantIdle(t, b)
}
