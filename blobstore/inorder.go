package blobstore

import (
	"context"
	"iter"
	"sync"
)

// inOrder calls do for each item of a sequence, for up to maxParallel of them at a time,
// and returns the results in the order of the items. It ends with the first error, of the
// sequence or of do.
func inOrder[T, R any](ctx context.Context, items iter.Seq2[T, error], do func(context.Context, T) (R, error)) iter.Seq2[R, error] {
	type result struct {
		value R
		err   error
	}
	return func(yield func(R, error) bool) {
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		next, stop := iter.Pull2(items)
		defer stop()

		started := make(chan chan result, maxParallel) // in the order of the items
		start := func() bool {
			item, err, ok := next()
			if !ok {
				return false
			}
			done := make(chan result, 1)
			started <- done
			if err != nil {
				done <- result{err: err}
				return false
			}
			wg.Go(func() {
				value, err := do(ctx, item)
				done <- result{value, err}
			})
			return true
		}
		for more := true; ; {
			for more && len(started) < maxParallel {
				more = start()
			}
			if len(started) == 0 {
				return
			}
			r := <-<-started
			if !yield(r.value, r.err) || r.err != nil {
				return
			}
		}
	}
}
