package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cloud.google.com/go/storage"
	gax "github.com/googleapis/gax-go/v2"

	"github.com/berthhq/berth/drivers"
)

// attempts is the number of attempts. With the pauses between them they last
// longer than a second, because GCS accepts one write of an object per second:
// https://cloud.google.com/storage/quotas#objects.
const attempts = 6

func backoff() gax.Backoff {
	return gax.Backoff{Initial: 300 * time.Millisecond, Max: 10 * time.Second, Multiplier: 2}
}

// retry calls f until it succeeds, or fails with an error that a retry does not
// fix. It returns the last error. The SDK retries only requests without a body:
// a writer keeps no copy of its body to send again.
func retry(ctx context.Context, f func() error) error {
	_, err := retryWrite(ctx, f)
	return err
}

// retryWrite is retry for a write. It also reports whether an attempt before the last
// one may have taken effect: it got no answer, or one that does not exclude it.
func retryWrite(ctx context.Context, f func() error) (unanswered bool, err error) {
	pause := backoff()
	for n := 1; ; n++ {
		err := f()
		if err == nil || n == attempts || ctx.Err() != nil || !storage.ShouldRetry(err) {
			return unanswered, err
		}
		unanswered = unanswered || status(err) != http.StatusTooManyRequests
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return unanswered, err
		}
	}
}

// refused returns the error of a conditional write. If an earlier attempt may have taken
// effect, the condition may have failed because of it, and the error also wraps
// drivers.ErrUnanswered.
func refused(err error, unanswered bool) error {
	isClaim := errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrChanged) || errors.Is(err, drivers.ErrNotFound)
	if unanswered && isClaim {
		return fmt.Errorf("%w: %w", err, drivers.ErrUnanswered)
	}
	return err
}
