package collect

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
)

// pageSize is the number of objects that one request to the store lists.
const pageSize = 1000

// listed is an object of a listing. What relies on the listing is written before due.
type listed struct {
	drivers.Object
	due deadline.Deadline
}

// span is the keys with a prefix that are greater than from and less than to, if that is
// not empty.
type span struct {
	prefix   string
	from, to string
}

// shards divides the keys with a prefix by the two hexadecimal digits that follow at,
// which starts with the prefix. Together the shards have all keys with the prefix,
// whether or not they have such digits.
func (r *run) shards(prefix, at string) []span {
	if r.cfg.Concurrency == 1 {
		return []span{{prefix: prefix}}
	}
	var all []span
	for i := range 256 {
		s := span{prefix: prefix, from: fmt.Sprintf("%s%02x", at, i), to: fmt.Sprintf("%s%02x", at, i+1)}
		if i == 0 {
			s.from = ""
		}
		if i == 255 {
			s.to = ""
		}
		all = append(all, s)
	}
	return all
}

// walk calls do for each object of a span, in order. It lists a page at a time. Once the
// page is too old for a write to rely on it, walk lists again from there.
func (r *run) walk(ctx context.Context, s span, do func(context.Context, listed) error) error {
	for after, more := s.from, true; more; {
		due := r.deadline()
		page := make([]drivers.Object, 0, 64)
		for o, err := range r.meter.List(ctx, s.prefix, after, pageSize) {
			if err != nil {
				return fmt.Errorf("list %s: %w", s.prefix, err)
			}
			if page = append(page, o); len(page) == pageSize {
				break
			}
		}
		more = len(page) == pageSize
		for i, o := range page {
			if s.to != "" && o.Key >= s.to {
				return nil
			}
			if i > 0 && due.Check() != nil {
				more = true
				break
			}
			if err := do(ctx, listed{o, due}); err != nil {
				return err
			}
			after = o.Key
		}
	}
	return nil
}

// walkShards walks the shards in parallel.
func (r *run) walkShards(ctx context.Context, step string, shards []span, walk func(context.Context, span) error) error {
	return r.eachOf(ctx, step, len(shards), func(ctx context.Context, i int) error { return walk(ctx, shards[i]) })
}

// eachOf is parallel for a step of which the progress counts the parts.
func (r *run) eachOf(ctx context.Context, step string, n int, do func(context.Context, int) error) error {
	r.progress.step(step, n)
	return r.parallel(ctx, n, func(ctx context.Context, i int) error {
		defer r.progress.add()
		return do(ctx, i)
	})
}

// parallel calls do with 0 to n-1, in order and as many at a time as the collector may
// make requests. It returns the first error.
func (r *run) parallel(ctx context.Context, n int, do func(context.Context, int) error) error {
	g, ctx := r.group(ctx)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		g.do(func() error { return do(ctx, i) })
	}
	return g.wait()
}

// group runs functions in parallel, or one after another if there is one request at a
// time: then a run makes its requests in the same order each time.
type group struct {
	*errgroup.Group
	inline bool
	cancel context.CancelFunc
	err    error
}

func (r *run) group(ctx context.Context) (*group, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.cfg.Concurrency)
	return &group{Group: g, inline: r.cfg.Concurrency == 1, cancel: cancel}, ctx
}

func (g *group) do(f func() error) {
	switch {
	case !g.inline:
		g.Go(f)
	case g.err == nil:
		if g.err = f(); g.err != nil {
			g.cancel()
		}
	}
}

// wait waits for the functions, and returns the first error.
func (g *group) wait() error {
	defer g.cancel()
	if err := g.Wait(); err != nil {
		return err
	}
	return g.err
}

// deadline returns the end of the time for which writes may rely on reads that start now.
func (r *run) deadline() deadline.Deadline {
	if r.cfg.Broken.OldReads {
		return deadline.New(1 << 62)
	}
	return deadline.New(r.limits.Request)
}

// isData reports whether key is the key of bytes that the collector may delete.
func isData(key string) bool { return strings.HasPrefix(key, drivers.BulkPrefix) }
