package blobstore

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// upTo returns the numbers below n, and then an error if it is not nil.
func upTo(n int, err error) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
		if err != nil {
			yield(0, err)
		}
	}
}

// TestInOrder checks the order of the results, and how many items are worked on at a
// time, by one list and by several that share their slots.
func TestInOrder(t *testing.T) {
	for _, test := range []struct{ lists, items, slots, atOnce int }{
		{lists: 1, items: 100, slots: 1000, atOnce: maxParallel},
		{lists: 1, items: 100, slots: 3, atOnce: 3},
		{lists: 10, items: 100, slots: 40, atOnce: 40},
		{lists: 10, items: 20, slots: 1, atOnce: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			slots := make(slots, test.slots)
			var mu sync.Mutex
			running, most := 0, 0
			do := func(_ context.Context, i int) (int, error) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(time.Duration(1+i%7) * time.Second)
				mu.Lock()
				running--
				mu.Unlock()
				return 2 * i, t.Context().Err()
			}
			var wg sync.WaitGroup
			for range test.lists {
				wg.Go(func() {
					var got []int
					for v, err := range inOrder(t.Context(), slots, upTo(test.items, nil), do) {
						if err != nil {
							t.Error(err)
						}
						got = append(got, v)
						time.Sleep(time.Second) // the caller is slow too
					}
					if len(got) != test.items || !areEven(got) {
						t.Errorf("%+v: the results are %v, want the even numbers in order", test, got)
					}
				})
			}
			wg.Wait()
			if most != test.atOnce || len(slots) > 0 {
				t.Errorf("%+v: %d items at a time, and %d slots taken at the end, want %d and none", test, most, len(slots), test.atOnce)
			}
		})
	}
}

func areEven(got []int) bool {
	for i, v := range got {
		if v != 2*i {
			return false
		}
	}
	return true
}

// TestInOrderEnds ends lists early: by their caller, by an error of an item or of the
// sequence, and by the context. All workers have ended then, and all slots are free.
func TestInOrderEnds(t *testing.T) {
	failed := errors.New("failed")
	for name, test := range map[string]struct {
		stopAt, failAt int // an item; -1 for none
		end            error
		cancel         bool
		want           int // results
		err            error
	}{
		"by the caller":    {stopAt: 5, failAt: -1, want: 6},
		"by an item":       {stopAt: -1, failAt: 7, want: 7, err: failed},
		"by the sequence":  {stopAt: -1, failAt: -1, end: failed, want: 50, err: failed},
		"by the context":   {stopAt: -1, failAt: -1, cancel: true, err: context.Canceled},
		"by a slow caller": {stopAt: 0, failAt: 1, want: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.cancel {
				cancel()
			}
			slots := make(slots, 4)
			var running sync.WaitGroup
			do := func(ctx context.Context, i int) (int, error) {
				running.Add(1)
				defer running.Done()
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
					return 0, ctx.Err()
				}
				if i == test.failAt {
					return 0, failed
				}
				return i, nil
			}
			var got []int
			var err error
			for v, e := range inOrder(ctx, slots, upTo(50, test.end), do) {
				if err = e; err != nil {
					continue
				}
				if got = append(got, v); v == test.stopAt {
					break
				}
			}
			running.Wait()
			if len(got) != test.want || !slices.IsSorted(got) || !errors.Is(err, test.err) || len(slots) > 0 {
				t.Errorf("a list that ends %s has %d results, %v, and %d slots at the end, want %d, %v and none", name, len(got), err, len(slots), test.want, test.err)
			}
		})
	}
}
