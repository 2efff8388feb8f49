// Package deadline bounds the time in which one request may act on what it has
// read from the store.
//
// The collector waits longer than that before it deletes an object, so it never
// deletes one that a running request still relies on.
package deadline

import (
	"context"
	"fmt"
	"time"

	"github.com/berthhq/berth/drivers"
)

// Deadline is the end of the time that one request may last. A request checks it
// before every write that depends on an earlier read, and again before it is
// acknowledged.
type Deadline struct {
	start time.Time // by the monotonic clock
	wall  time.Time // the same moment, by the wall clock only
	max   time.Duration
}

// New returns the Deadline of a request that starts now and may last for limit.
func New(limit time.Duration) Deadline {
	now := time.Now()
	return Deadline{now, now.Round(0), limit}
}

// elapsed returns the time since the start, by the wall clock or the monotonic
// clock, the larger of the two: the wall clock can be set back, and the monotonic
// clock stands still while the machine is suspended.
func (d Deadline) elapsed() time.Duration {
	now := time.Now()
	return max(now.Sub(d.start), now.Round(0).Sub(d.wall))
}

// flushReserve is how long before its deadline a request must have received all
// its bytes, so that there is time left to record them.
const flushReserve = 5 * time.Minute

// IsNear reports whether the request must stop receiving and record what it has:
// less than five minutes are left, or less than a quarter of the time if that is
// shorter.
func (d Deadline) IsNear() bool { return d.elapsed() > d.max-min(flushReserve, d.max/4) }

// Check returns an error that wraps drivers.ErrBusy if the deadline has passed.
func (d Deadline) Check() error {
	if e := d.elapsed(); e > d.max {
		return fmt.Errorf("the request has lasted %v, longer than its limit of %v: %w", e.Round(time.Second), d.max, drivers.ErrBusy)
	}
	return nil
}

// Context returns a copy of ctx that is cancelled when the deadline passes.
func (d Deadline) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, d.start.Add(d.max))
}
