package blobstore

import (
	"context"
	"iter"
	"sync"
)

// maxListReads is the number of manifests and tags that all lists of a process read or
// hold at a time. They take at most envelope.MaxRaw bytes each.
const maxListReads = 128

// inOrder calls do for the items, a bounded number of them at a time, and returns the
// results in the order of the items. It ends with the first error. Each item takes one
// of the slots until its result was used.
//
// An inOrder that waits for a slot has none, so none of them waits for itself.
func inOrder[T, R any](ctx context.Context, slots slots, items iter.Seq2[T, error], do func(context.Context, T) (R, error)) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		q := &queue[R]{slots: slots, yield: yield}
		defer q.close()
		defer cancel()
		for item, err := range items {
			if err != nil {
				if q.drain(0) {
					q.fail(err)
				}
				return
			}
			if !q.drain(maxParallel-1) || !q.takeSlot(ctx) {
				return
			}
			q.start(func() (R, error) { return do(ctx, item) })
		}
		q.drain(0)
	}
}

// queue is the results of one inOrder that were not returned yet, in their order.
type queue[R any] struct {
	slots   slots
	yield   func(R, error) bool
	workers sync.WaitGroup
	pending []chan inOrderResult[R]
}

type inOrderResult[R any] struct {
	value R
	err   error
}

func (q *queue[R]) start(do func() (R, error)) {
	done := make(chan inOrderResult[R], 1)
	q.pending = append(q.pending, done)
	q.workers.Go(func() {
		value, err := do()
		done <- inOrderResult[R]{value, err}
	})
}

// drain returns results to the caller until at most n are pending. It reports whether
// the caller continues.
func (q *queue[R]) drain(n int) bool {
	for len(q.pending) > n {
		if !q.next() {
			return false
		}
	}
	return true
}

// next returns the next result to the caller, and reports whether it continues.
func (q *queue[R]) next() bool {
	r := <-q.pending[0]
	q.pending = q.pending[1:]
	defer func() { <-q.slots }()
	return q.yield(r.value, r.err) && r.err == nil
}

// takeSlot waits for a slot. It returns pending results first if there is none. It
// reports whether the caller continues.
func (q *queue[R]) takeSlot(ctx context.Context) bool {
	for {
		select {
		case q.slots <- struct{}{}:
			return true
		default:
		}
		if len(q.pending) == 0 {
			break
		}
		if !q.next() {
			return false
		}
	}
	select {
	case q.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		q.fail(ctx.Err())
		return false
	}
}

func (q *queue[R]) fail(err error) {
	var zero R
	q.yield(zero, err)
}

// close waits until no worker runs, and gives the slots back.
func (q *queue[R]) close() {
	q.workers.Wait()
	for range q.pending {
		<-q.slots
	}
}
