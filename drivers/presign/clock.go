package presign

import (
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	// skewAllowed is how far the clocks of this machine and of a store may be
	// apart before URLs are signed by the store's.
	skewAllowed = time.Minute

	// skewUnit is what a skew is rounded to, so that the time of a signature
	// does not move with every answer.
	skewUnit = time.Minute

	// skewAnswers is how many answers in a row must agree on another skew: one
	// alone may be from a proxy or a cache on the way.
	skewAnswers = 3

	// skewPatience is how long an exchange may last that shows the time of its
	// answer well enough.
	skewPatience = 20 * time.Second
)

// Clock is the clock of a store, for drivers that sign URLs: the store judges by
// its own clock whether a URL has expired, and this machine's may be wrong. It
// is read from the Date of the store's answers. While the two are less than a
// minute apart, it is this machine's clock, so that processes with good clocks
// sign the same URLs. It is safe for concurrent use. A nil *Clock is this
// machine's.
type Clock struct {
	log *slog.Logger

	mu    sync.Mutex
	skew  time.Duration // whole minutes that the store's clock is ahead
	found time.Duration // another skew, of the last answers
	times int           // how many of them
}

// NewClock returns the clock of a store that has not answered yet. It logs a
// warning when the clocks are found to be apart, and again when that changes.
// log may be nil.
func NewClock(log *slog.Logger) *Clock {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Clock{log: log}
}

// Now returns the time by the store's clock.
func (c *Clock) Now() time.Time { return time.Now().Add(c.Skew()) }

// Local returns the time of this machine's clock at which the store's shows t.
func (c *Clock) Local(t time.Time) time.Time { return t.Add(-c.Skew()) }

// Skew returns how far the store's clock is ahead of this machine's, in whole
// minutes: zero while they are less than a minute apart.
func (c *Clock) Skew() time.Duration {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew
}

// Watch returns a transport that reads the clock from the answers that next
// gets. They must be the store's own.
func (c *Clock) Watch(next http.RoundTripper) http.RoundTripper { return &watch{c, next} }

type watch struct {
	clock *Clock
	next  http.RoundTripper
}

func (w *watch) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := time.Now().Round(0) // the wall clock, which is what may be wrong
	resp, err := w.next.RoundTrip(req)
	if err == nil && resp.Header.Get("Age") == "" { // else it is a cache's
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			w.clock.observe(sent, time.Now().Round(0), date)
		}
	}
	return resp, err
}

// CloseIdleConnections makes that of [http.Client] work.
func (w *watch) CloseIdleConnections() {
	if c, ok := w.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// observe learns from an answer of this date to a request that was sent and
// answered at these times of this machine. Date is a whole second, rounded down.
func (c *Clock) observe(sent, answered, date time.Time) {
	if took := answered.Sub(sent); took < 0 || took > skewPatience {
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
	if c.times++; c.times < skewAnswers {
		return
	}
	c.times = 0
	skew := found.Round(skewUnit)
	if found.Abs() <= skewAllowed {
		skew = 0
	}
	if skew == c.skew { // the difference is in the rounding
		return
	}
	if c.skew = skew; skew == 0 {
		c.log.Info("the clocks of the store and of this machine agree again")
		return
	}
	c.log.Warn("the clock of this machine is wrong, or the store's is: URLs are signed by the store's; synchronize the clock (NTP)",
		slog.Duration("store_ahead", skew))
}
