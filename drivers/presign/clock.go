package presign

import (
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	// skewAllowed is the difference between the clocks of this machine and of a
	// store up to which URLs are signed by this machine's.
	skewAllowed = time.Minute

	// skewUnit is the unit to which a skew is rounded, so that the time of a
	// signature does not change with every response.
	skewUnit = time.Minute

	// skewResponses is how many responses in a row must agree on another skew. A
	// single one may come from a proxy or a cache in between.
	skewResponses = 3

	// skewTimeout is how long an exchange may take to be a measurement: the Date of
	// a slow response may be from any moment of it.
	skewTimeout = 20 * time.Second
)

// Clock is the clock of a store, for drivers that sign URLs. The store decides by
// its own clock whether a URL has expired, and this machine's clock may be wrong.
// Clock reads the store's time from the Date of its responses. While the two
// clocks differ by less than a minute, Clock is this machine's clock, so that
// processes with good clocks sign the same URLs. It is safe for concurrent use. A
// nil *Clock is this machine's clock.
type Clock struct {
	log *slog.Logger

	mu    sync.Mutex
	skew  time.Duration // whole minutes that the store's clock is ahead
	found time.Duration // another skew, measured by the last responses
	times int           // how many responses measured it
}

// NewClock returns the clock of a store that has not responded yet. It logs a
// warning when the clocks turn out to differ, and again when that changes. log may
// be nil.
func NewClock(log *slog.Logger) *Clock {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Clock{log: log}
}

// Now returns the time by the store's clock.
func (c *Clock) Now() time.Time { return time.Now().Add(c.Skew()) }

// Local returns the time by this machine's clock at which the store's clock shows t.
func (c *Clock) Local(t time.Time) time.Time { return t.Add(-c.Skew()) }

// Skew returns how far the store's clock is ahead of this machine's, in whole
// minutes. It is zero while they differ by less than a minute.
func (c *Clock) Skew() time.Duration {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew
}

// Watch returns a transport that sends requests by next, and reads the clock from
// the responses. All of them must come from the store.
func (c *Clock) Watch(next http.RoundTripper) http.RoundTripper { return &watch{c, next} }

type watch struct {
	clock *Clock
	next  http.RoundTripper
}

func (w *watch) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := time.Now().Round(0) // by the wall clock, which may be wrong
	resp, err := w.next.RoundTrip(req)
	if err == nil && resp.Header.Get("Age") == "" { // a cache adds Age
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			w.clock.observe(sent, time.Now().Round(0), date)
		}
	}
	return resp, err
}

// CloseIdleConnections closes those of the next transport, for [http.Client].
func (w *watch) CloseIdleConnections() {
	if c, ok := w.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// observe updates the clock by a response with this date. The request was sent and
// answered at these times of this machine. Date is a whole second, rounded down.
func (c *Clock) observe(sent, answered, date time.Time) {
	if took := answered.Sub(sent); took < 0 || took > skewTimeout {
		return
	}
	least, most := date.Sub(answered), date.Add(time.Second).Sub(sent)
	c.mu.Lock()
	defer c.mu.Unlock()
	if least <= c.skew+skewAllowed && most >= c.skew-skewAllowed {
		c.times = 0
		return
	}
	found := (least + most) / 2
	if c.times > 0 && (found-c.found).Abs() > skewAllowed {
		c.times = 0
	}
	c.found = found
	if c.times++; c.times < skewResponses {
		return
	}
	c.times = 0
	skew := found.Round(skewUnit)
	if found.Abs() <= skewAllowed {
		skew = 0
	}
	if skew == c.skew { // the difference was only in the rounding
		return
	}
	if c.skew = skew; skew == 0 {
		c.log.Info("the clocks of the store and of this machine agree again")
		return
	}
	c.log.Warn("the clocks of this machine and of the store differ: URLs are signed by the store's clock; synchronize the clock (NTP)",
		slog.Duration("store_ahead", skew))
}
