package upload

import (
	"cmp"
	"slices"
	"time"
)

const (
	// A client that sends less than slowRate bytes a second over slowWindow
	// loses its memory while others wait for some.
	slowRate   = 64 << 10
	slowWindow = 10 * time.Second

	// The runner, while others wait for it to fill its part, may send nothing
	// for this long only. Otherwise many clients that each fall silent at their
	// turn would hold up the others for a window each.
	idleRunner = 2 * time.Second

	watchEvery = time.Second
)

// client is what memory knows of the one that sends an upload's bytes. All
// fields are guarded by the memory's lock.
type client struct {
	m   *memory
	cut func() // takes its memory away; may be called again before it is gone

	held     int       // segments
	admitted bool      // it has had some
	pauses   int       // reasons why berth is not waiting for it
	paused   time.Time // since when there has been one
	since    time.Time
	bytes    int64 // that came since then
	slow     bool  // in the window before
	arrived  time.Time
}

// newClient returns a client whose turn it is. If all are being cut off, so is it.
func (m *memory) newClient(cut func()) *client {
	now := time.Now()
	c := &client{m: m, cut: cut, since: now, arrived: now}
	m.mu.Lock()
	m.clients[c] = struct{}{}
	draining := m.draining
	m.mu.Unlock()
	if draining {
		cut()
	}
	return c
}

// leave removes the client. All its buffers are released.
func (c *client) leave() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	delete(c.m.clients, c)
}

// pause notes a reason why berth keeps the client waiting, and resume that one
// reason is over; after the last one it is the client's turn again. The time
// between is not the client's.
func (c *client) pause() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.pauseLocked()
}

func (c *client) pauseLocked() {
	if c.pauses == 0 {
		c.paused = time.Now()
	}
	c.pauses++
}

func (c *client) resume() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.resumeLocked()
}

func (c *client) resumeLocked() {
	if c.pauses--; c.pauses == 0 {
		d := time.Since(c.paused)
		c.since, c.arrived = c.since.Add(d), c.arrived.Add(d)
	}
}

// received notes that n bytes came.
func (c *client) received(n int) {
	now := time.Now()
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.bytes += int64(n)
	c.arrived = now
	if d := now.Sub(c.since); d >= slowWindow {
		c.slow = slower(c.bytes, d)
		c.since, c.bytes = now, 0
	}
}

func (c *client) isSlow(now time.Time) bool {
	if c.pauses > 0 || c.held == 0 {
		return false
	}
	if r := c.m.runner; r != nil && r.client == c && !r.sending && now.Sub(c.arrived) >= idleRunner {
		return true
	}
	if now.Sub(c.arrived) >= slowWindow {
		return true
	}
	if d := now.Sub(c.since); d >= slowWindow {
		return slower(c.bytes, d)
	}
	return c.slow
}

func slower(bytes int64, d time.Duration) bool {
	return float64(bytes) < slowRate*d.Seconds()
}

// watch looks for slow clients as long as anyone waits. The lock is held.
func (m *memory) watch() {
	if m.ticking || len(m.queue) == 0 {
		return
	}
	m.ticking = true
	time.AfterFunc(watchEvery, func() {
		m.cutSlow()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ticking = false
		m.watch()
	})
}

// cutSlow takes the memory of every slow client, the idlest first.
func (m *memory) cutSlow() {
	m.mu.Lock()
	var slow []*client
	now := time.Now()
	if len(m.queue) > 0 {
		for c := range m.clients {
			if c.isSlow(now) {
				slow = append(slow, c)
			}
		}
	}
	slices.SortFunc(slow, func(a, b *client) int { return cmp.Compare(a.arrived.UnixNano(), b.arrived.UnixNano()) })
	m.mu.Unlock()
	for _, c := range slow {
		c.cut()
	}
}

// drain cuts off every client, now and from now on.
func (m *memory) drain() {
	m.mu.Lock()
	m.draining = true
	var all []*client
	for c := range m.clients {
		all = append(all, c)
	}
	m.mu.Unlock()
	for _, c := range all {
		c.cut()
	}
}
