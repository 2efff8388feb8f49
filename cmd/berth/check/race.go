package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berthhq/berth/drivers"
)

// race calls f n times concurrently and returns the error of each call.
func race(n int, f func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// oneWinner returns the index of the call that succeeded. It returns an error
// unless exactly one call succeeded and all other calls returned refusal or
// found the store busy.
func oneWinner(errs []error, refusal error) (int, error) {
	winner, winners := -1, 0
	var busy error
	for i, err := range errs {
		switch {
		case err == nil:
			winner = i
			winners++
		case errors.Is(err, drivers.ErrBusy):
			busy = err
		case !errors.Is(err, refusal):
			return -1, err
		}
	}
	switch {
	case winners == 1:
		return winner, nil
	case winners == 0 && busy != nil: // a busy call may have won
		return -1, fmt.Errorf("none of %d writers succeeded: %w", len(errs), busy)
	default:
		return -1, fmt.Errorf("%d of %d writers succeeded, want 1", winners, len(errs))
	}
}

const (
	maxTries   = 5
	retryPause = 1100 * time.Millisecond
)

// retryBusy retries f while the store is busy, because Cloudflare R2 accepts one
// write of a key per second (https://developers.cloudflare.com/r2/platform/limits/).
func retryBusy(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if !errors.Is(err, drivers.ErrBusy) || try == maxTries {
			return err
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return err
		}
	}
}

// write retries a conditional write while the store is busy. A write that found
// the store busy may have taken effect, so a refusal of a later try proves
// nothing: write then returns the earlier ErrBusy.
func write(ctx context.Context, f func() (drivers.Object, error)) (drivers.Object, error) {
	var o drivers.Object
	var busy error
	err := retryBusy(ctx, func() (err error) {
		if o, err = f(); errors.Is(err, drivers.ErrBusy) {
			busy = err
		}
		return err
	})
	if busy != nil && (errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrChanged)) {
		return o, busy
	}
	return o, err
}

// racers is the number of concurrent writers of one key.
const racers = 16

// createRaced checks that exactly one of several concurrent creations succeeds.
func createRaced(ctx context.Context, b *run) (string, error) {
	key := b.key("create")
	body := func(i int) []byte { return fmt.Appendf(nil, "writer %d", i) }
	errs := race(racers, func(i int) error {
		_, err := write(ctx, func() (drivers.Object, error) { return b.at(i).Create(ctx, key, drivers.NewBody(body(i))) })
		return err
	})
	return raceWon(ctx, b, key, errs, drivers.ErrExists, body)
}

// replaceRaced checks that exactly one of several concurrent replacements
// succeeds.
func replaceRaced(ctx context.Context, b *run) (string, error) {
	key := b.key("replace")
	o, err := b.Create(ctx, key, drivers.NewBody([]byte("before")))
	if err != nil {
		return "", err
	}
	body := func(i int) []byte { return fmt.Appendf(nil, "writer %d", i) }
	errs := race(racers, func(i int) error {
		_, err := write(ctx, func() (drivers.Object, error) { return b.at(i).Replace(ctx, key, o.Tag, drivers.NewBody(body(i))) })
		return err
	})
	return raceWon(ctx, b, key, errs, drivers.ErrChanged, body)
}

// raceWon checks that exactly one writer has succeeded, and that the object has
// the body of that writer.
func raceWon(ctx context.Context, b *run, key string, errs []error, refusal error, body func(int) []byte) (string, error) {
	winner, err := oneWinner(errs, refusal)
	if err != nil {
		return "", err
	}
	for i := range b.endpoints() {
		got, err := read(ctx, b.at(i), key, 0, -1)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(got, body(winner)) {
			return "", fmt.Errorf("the object is %q, but the writer of %q succeeded", got, body(winner))
		}
	}
	if n := b.endpoints(); n > 1 {
		return fmt.Sprintf("1 winner of %d, through %d endpoints", len(errs), n), nil
	}
	return fmt.Sprintf("1 winner of %d", len(errs)), nil
}

// deleteStale checks that a deletion with the tag of an older version does nothing.
func deleteStale(ctx context.Context, b *run) (string, error) {
	key := b.key("delete")
	old, err := b.Create(ctx, key, drivers.NewBody([]byte("old")))
	if err != nil {
		return "", err
	}
	current, err := write(ctx, func() (drivers.Object, error) {
		return b.Replace(ctx, key, old.Tag, drivers.NewBody([]byte("new")))
	})
	if err != nil {
		return "", err
	}
	deleteBy := func(tag string) error {
		return retryBusy(ctx, func() error { return b.DeleteIf(ctx, key, tag) })
	}
	if err := deleteBy(old.Tag); !errors.Is(err, drivers.ErrChanged) {
		return "", fmt.Errorf("deletion with an old tag: %w, want %w", orNothing(err), drivers.ErrChanged)
	}
	if _, err := b.Stat(ctx, key); err != nil {
		return "", fmt.Errorf("after a deletion with an old tag: %w", err)
	}
	if err := deleteBy(current.Tag); err != nil {
		return "", err
	}
	if _, err := b.Stat(ctx, key); !errors.Is(err, drivers.ErrNotFound) {
		return "", fmt.Errorf("the object still exists after a deletion with its tag: %w", orNothing(err))
	}
	return "refused with an old tag, done with the current tag (by the store, or by conditional writes of the driver)", nil
}
