package gcs

import (
	"context"
	"time"

	"cloud.google.com/go/storage"
	gax "github.com/googleapis/gax-go/v2"
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
	pause := backoff()
	for n := 1; ; n++ {
		err := f()
		if err == nil || n == attempts || ctx.Err() != nil || !storage.ShouldRetry(err) {
			return err
		}
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return err
		}
	}
}
