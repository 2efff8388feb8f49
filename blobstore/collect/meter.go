package collect

import (
	"context"
	"io"
	"iter"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/berthhq/berth/drivers"
)

// meter is the bucket of a collector. It counts the requests to the store, and makes each
// wait until the rate allows it.
type meter struct {
	drivers.Bucket

	limiter                                        *rate.Limiter
	lists, gets, stats, creates, replaces, deletes atomic.Int64
}

// Requests are the requests to the store, by their kind. A list is a page of at most 1,000
// keys.
type Requests struct {
	List    int64 `json:"list"`
	Get     int64 `json:"get"`
	Stat    int64 `json:"stat"`
	Create  int64 `json:"create"`
	Replace int64 `json:"replace"`
	Delete  int64 `json:"delete"`
}

// Total returns the number of all requests.
func (r Requests) Total() int64 { return r.List + r.Get + r.Stat + r.Create + r.Replace + r.Delete }

func (m *meter) counts() Requests {
	return Requests{m.lists.Load(), m.gets.Load(), m.stats.Load(), m.creates.Load(), m.replaces.Load(), m.deletes.Load()}
}

func (m *meter) wait(ctx context.Context, of *atomic.Int64) error {
	of.Add(1)
	return m.limiter.Wait(ctx)
}

// Create implements drivers.Bucket, as the other methods do.
func (m *meter) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if err := m.wait(ctx, &m.creates); err != nil {
		return drivers.Object{}, err
	}
	return m.Bucket.Create(ctx, key, body)
}

func (m *meter) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if err := m.wait(ctx, &m.replaces); err != nil {
		return drivers.Object{}, err
	}
	return m.Bucket.Replace(ctx, key, tag, body)
}

func (m *meter) DeleteIf(ctx context.Context, key, tag string) error {
	if err := m.wait(ctx, &m.deletes); err != nil {
		return err
	}
	return m.Bucket.DeleteIf(ctx, key, tag)
}

func (m *meter) Delete(ctx context.Context, keys ...string) error {
	if err := m.wait(ctx, &m.deletes); err != nil {
		return err
	}
	return m.Bucket.Delete(ctx, keys...)
}

func (m *meter) Abort(ctx context.Context, u drivers.Upload) error {
	if err := m.wait(ctx, &m.deletes); err != nil {
		return err
	}
	return m.Bucket.Abort(ctx, u)
}

func (m *meter) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if err := m.wait(ctx, &m.gets); err != nil {
		return nil, drivers.Object{}, err
	}
	return m.Bucket.Open(ctx, key, off, n)
}

func (m *meter) Stat(ctx context.Context, key string) (drivers.Object, error) {
	if err := m.wait(ctx, &m.stats); err != nil {
		return drivers.Object{}, err
	}
	return m.Bucket.Stat(ctx, key)
}

// List waits once for each page.
func (m *meter) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		if err := m.wait(ctx, &m.lists); err != nil {
			yield(drivers.Object{}, err)
			return
		}
		n := 0
		for o, err := range m.Bucket.List(ctx, prefix, after, want) {
			if n++; n > 1 && n%pageSize == 1 && err == nil {
				err = m.wait(ctx, &m.lists)
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

func (m *meter) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		if err := m.wait(ctx, &m.lists); err != nil {
			yield(drivers.Upload{}, err)
			return
		}
		m.Bucket.Uploads(ctx, prefix)(yield)
	}
}
