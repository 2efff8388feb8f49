package gcs

import (
	"context"
	"time"

	"cloud.google.com/go/storage"
	gax "github.com/googleapis/gax-go/v2"
)

// attempts, with the pauses between them, outlast the second within which GCS
// takes one write of an object:
// https://cloud.google.com/storage/quotas#objects.
const attempts = 6

func backoff() gax.Backoff {
	return gax.Backoff{Initial: 300 * time.Millisecond, Max: 10 * time.Second, Multiplier: 2}
}

// again calls f until it succeeds, or fails in a way that another call won't
// mend. The SDK does this for requests without a body; a writer that keeps no
// copy of its body it cannot begin again.
func again(ctx context.Context, f func() error) error {
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
