package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// Limits are the times for which a process may rely on what it has read, or may let a
// client rely on it. The collector waits for longer than the largest limits of any
// process that serves the bucket.
type Limits struct {
	Request time.Duration `json:"request"` // longest duration of a request
	Cache   time.Duration `json:"cache"`   // longest age of what is cached
	Session time.Duration `json:"session"` // lifetime of an upload
	URL     time.Duration `json:"url"`     // longest life of a signed URL, at the store or a CDN
}

// Raised returns the larger of each of the limits of l and other.
func (l Limits) Raised(other Limits) Limits {
	return Limits{
		Request: max(l.Request, other.Request),
		Cache:   max(l.Cache, other.Cache),
		Session: max(l.Session, other.Session),
		URL:     max(l.URL, other.URL),
	}
}

// ReadLimits returns the largest limits of any process that has served the bucket. It
// returns drivers.ErrNotFound if there was none.
func (c *Catalog) ReadLimits(ctx context.Context) (Limits, error) {
	stored, err := envelope.Read[Limits](ctx, c.bucket, LimitsKey)
	return stored.Value, err
}

// RaiseLimits raises the stored limits to at least those of this process. A process
// calls it before it serves. It only reads if they are high enough. A retry is harmless.
func (c *Catalog) RaiseLimits(ctx context.Context, ours Limits) error {
	for {
		stored, err := envelope.Read[Limits](ctx, c.bucket, LimitsKey)
		switch raised := stored.Value.Raised(ours); {
		case errors.Is(err, drivers.ErrNotFound):
			_, err = envelope.Create(ctx, c.bucket, LimitsKey, ours, drivers.Body{})
		case err == nil && raised != stored.Value:
			_, err = envelope.Replace(ctx, c.bucket, LimitsKey, stored.Object.Tag, raised, drivers.Body{})
		}
		if errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrChanged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("catalog: %s: %w", LimitsKey, err)
		}
		return nil
	}
}
