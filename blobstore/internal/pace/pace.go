// Package pace limits the rate at which a maintenance command uses a store, and repeats
// what the store was too busy for.
package pace

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/berthhq/berth/drivers"
)

// Bucket is a bucket that waits before each request until the rate allows it.
type Bucket struct {
	drivers.Bucket

	limiter  *rate.Limiter
	requests atomic.Int64
}

// New returns the bucket with a limit of requests a second. Zero is no limit. Only the
// methods that read, write and delete whole objects wait.
func New(b drivers.Bucket, requestsPerSecond float64) *Bucket {
	return &Bucket{Bucket: b, limiter: Limiter(requestsPerSecond, max(1, int(requestsPerSecond/10)))}
}

// Limiter returns a limiter of events a second, with no limit if perSecond is zero.
func Limiter(perSecond float64, burst int) *rate.Limiter {
	if perSecond == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), burst)
}

// Requests returns the number of requests so far. A page of a list is one.
func (b *Bucket) Requests() int64 { return b.requests.Load() }

func (b *Bucket) wait(ctx context.Context) error {
	b.requests.Add(1)
	return b.limiter.Wait(ctx)
}

// Create implements drivers.Bucket, as the other methods do.
func (b *Bucket) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if err := b.wait(ctx); err != nil {
		return drivers.Object{}, err
	}
	return b.Bucket.Create(ctx, key, body)
}

// Replace implements drivers.Bucket.
func (b *Bucket) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if err := b.wait(ctx); err != nil {
		return drivers.Object{}, err
	}
	return b.Bucket.Replace(ctx, key, tag, body)
}

// DeleteIf implements drivers.Bucket.
func (b *Bucket) DeleteIf(ctx context.Context, key, tag string) error {
	if err := b.wait(ctx); err != nil {
		return err
	}
	return b.Bucket.DeleteIf(ctx, key, tag)
}

// Delete implements drivers.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if err := b.wait(ctx); err != nil {
		return err
	}
	return b.Bucket.Delete(ctx, keys...)
}

// Open implements drivers.Bucket.
func (b *Bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if err := b.wait(ctx); err != nil {
		return nil, drivers.Object{}, err
	}
	return b.Bucket.Open(ctx, key, off, n)
}

// Stat implements drivers.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (drivers.Object, error) {
	if err := b.wait(ctx); err != nil {
		return drivers.Object{}, err
	}
	return b.Bucket.Stat(ctx, key)
}

// pageSize is the number of keys that one request to a store lists.
const pageSize = 1000

// List implements drivers.Bucket. It waits once for each page.
func (b *Bucket) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		if err := b.wait(ctx); err != nil {
			yield(drivers.Object{}, err)
			return
		}
		n := 0
		for o, err := range b.Bucket.List(ctx, prefix, after, want) {
			if n++; n > 1 && n%pageSize == 1 && err == nil {
				err = b.wait(ctx)
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

// attempts is how often Retry calls a function.
const attempts = 6

// Retry calls do until it does not return drivers.ErrBusy, at most six times, within about
// a minute. It returns do's last error.
func Retry(ctx context.Context, do func() error) error {
	pause := 2 * time.Second
	for n := 1; ; n++ {
		err := do()
		if n == attempts || ctx.Err() != nil || !errors.Is(err, drivers.ErrBusy) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause *= 2
	}
}
