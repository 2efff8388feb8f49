package budget

import (
	"cmp"
	"slices"
	"time"
)

const (
	// A client that sends less than slowRate bytes a second over slowWindow is
	// slow.
	slowRate   = 64 << 10
	slowWindow = 10 * time.Second

	// idleRunner is how long the runner may send nothing. Otherwise many clients
	// that each fall silent at their turn would delay all waiters by a window
	// each.
	idleRunner = 2 * time.Second

	watchEvery = time.Second
)

// Client sends the bytes of one upload.
type Client struct {
	budget *Budget
	cut    func()

	held     int       // segments
	lists    int64     // bytes of lists of parts
	admitted bool      // the client has held segments
	pauses   int       // calls of Pause without a Resume
	paused   time.Time // when pauses was last 0
	since    time.Time // start of the window
	bytes    int64     // received in the window
	slow     bool      // in the window before
	arrived  time.Time // when bytes last arrived
}

// Join returns a new client. Its clock runs. The budget calls cut, from another
// goroutine and perhaps more than once, to have the client release its memory.
// After Drain it calls cut immediately.
func (b *Budget) Join(cut func()) *Client {
	now := time.Now()
	c := &Client{budget: b, cut: cut, since: now, arrived: now}
	b.mu.Lock()
	b.clients[c] = struct{}{}
	draining := b.draining
	b.mu.Unlock()
	if draining {
		cut()
	}
	return c
}

// Leave removes the client, which has released all its buffers, and gives the
// memory of its lists back.
func (c *Client) Leave() {
	c.budget.mu.Lock()
	defer c.budget.mu.Unlock()
	c.budget.lists += c.lists
	c.lists = 0
	delete(c.budget.clients, c)
}

// Pause stops the client's clock while berth, not the client, is the bottleneck.
// Calls nest: the clock runs again when every Pause has had its Resume. Paused
// time does not count against the client.
func (c *Client) Pause() {
	c.budget.mu.Lock()
	defer c.budget.mu.Unlock()
	c.pause()
}

// Resume is the reverse of one Pause.
func (c *Client) Resume() {
	c.budget.mu.Lock()
	defer c.budget.mu.Unlock()
	c.resume()
}

func (c *Client) pause() {
	if c.pauses == 0 {
		c.paused = time.Now()
	}
	c.pauses++
}

func (c *Client) resume() {
	if c.pauses--; c.pauses == 0 {
		d := time.Since(c.paused)
		c.since, c.arrived = c.since.Add(d), c.arrived.Add(d)
	}
}

// Received records that n bytes have arrived.
func (c *Client) Received(n int) {
	now := time.Now()
	c.budget.mu.Lock()
	defer c.budget.mu.Unlock()
	c.bytes += int64(n)
	c.arrived = now
	if d := now.Sub(c.since); d >= slowWindow {
		c.slow = slower(c.bytes, d)
		c.since, c.bytes = now, 0
	}
}

// ReserveList reserves n bytes of the share for lists of parts, and reports
// whether it could. It never waits. A list that is larger than the whole share is
// admitted only if no other client has a list.
func (c *Client) ReserveList(n int64) bool {
	b := c.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.lists && b.lists+c.lists < b.size/listShare {
		return false
	}
	b.lists -= n
	c.lists += n
	return true
}

// ReleaseList gives n bytes back that ReserveList has reserved.
func (c *Client) ReleaseList(n int64) {
	c.budget.mu.Lock()
	defer c.budget.mu.Unlock()
	c.budget.lists += n
	c.lists -= n
}

// Held returns the number of segments that the client holds.
func (c *Client) Held() int {
	c.budget.mu.Lock()
	defer c.budget.mu.Unlock()
	return c.held
}

func (c *Client) isSlow(now time.Time) bool {
	if c.pauses > 0 || c.held == 0 {
		return false
	}
	if r := c.budget.runner; r != nil && r.client == c && !r.sending && now.Sub(c.arrived) >= idleRunner {
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

// watch looks for slow clients as long as any client waits. Its caller holds the
// lock.
func (b *Budget) watch() {
	if b.ticking || len(b.queue) == 0 {
		return
	}
	b.ticking = true
	time.AfterFunc(watchEvery, func() {
		b.cutSlow()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ticking = false
		b.watch()
	})
}

// cutSlow cuts every slow client off, the one that has been silent for the longest
// time first.
func (b *Budget) cutSlow() {
	b.mu.Lock()
	var slow []*Client
	now := time.Now()
	if len(b.queue) > 0 {
		for c := range b.clients {
			if c.isSlow(now) {
				slow = append(slow, c)
			}
		}
	}
	slices.SortFunc(slow, func(x, y *Client) int { return cmp.Compare(x.arrived.UnixNano(), y.arrived.UnixNano()) })
	b.mu.Unlock()
	for _, c := range slow {
		c.cut()
	}
}

// Drain cuts off every client, those that join later too. It does not wait for
// them to leave.
func (b *Budget) Drain() {
	b.mu.Lock()
	b.draining = true
	var all []*Client
	for c := range b.clients {
		all = append(all, c)
	}
	b.mu.Unlock()
	for _, c := range all {
		c.cut()
	}
}
