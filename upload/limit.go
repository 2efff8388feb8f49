package upload

import (
	"context"
	"fmt"
	"time"

	"github.com/berthhq/berth/drivers"
)

// Limit is the time that one request may last. A request may act upon what it
// read from the store until then and no longer; the collector waits longer than
// that before it deletes, so it never meets a request that still believes what
// it read before.
type Limit struct {
	start time.Time // by the monotonic clock
	wall  time.Time // the same moment, by the wall clock only
	max   time.Duration
}

// NewLimit starts now.
func NewLimit(most time.Duration) Limit {
	now := time.Now()
	return Limit{now, now.Round(0), most}
}

// lasted returns how long ago it started, by the wall clock or the monotonic one,
// the larger of both: one can be set back, the other stands still while the
// machine is suspended.
func (l Limit) lasted() time.Duration {
	now := time.Now()
	return max(now.Sub(l.start), now.Round(0).Sub(l.wall))
}

// lastMoments is how long before the limit a request must have all its bytes, so
// that what came can still be recorded.
const lastMoments = 5 * time.Minute

// IsNear reports whether the request must come to its end.
func (l Limit) IsNear() bool { return l.lasted() > l.max-min(lastMoments, l.max/4) }

// Check reports drivers.ErrBusy once the request has lasted too long. It is
// asked right before every write that rests on an earlier read, and last of all
// before the request is acknowledged.
func (l Limit) Check() error {
	if d := l.lasted(); d > l.max {
		return fmt.Errorf("the request has lasted %v, longer than limits.request (%v): %w", d.Round(time.Second), l.max, drivers.ErrBusy)
	}
	return nil
}

// Context is ctx until the limit is reached.
func (l Limit) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, l.start.Add(l.max))
}
