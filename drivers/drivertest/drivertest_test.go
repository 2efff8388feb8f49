package drivertest_test

import (
	"context"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// suite returns a Suite for package memory with these habits, behind a Wrap
// that does nothing.
func suite(habits memory.Habits) drivertest.Suite {
	return drivertest.Suite{
		Like: habits,
		New: func(*testing.T) drivertest.Opener {
			store := &memory.Store{Habits: habits}
			return func(ctx context.Context) (drivers.Bucket, error) {
				b, err := memory.Open(ctx, memory.Config{Store: store})
				if err != nil {
					return nil, err
				}
				return drivertest.Wrap(b, func(ctx context.Context, _ drivertest.Call, do func(context.Context) error) error {
					return do(ctx)
				}), nil
			}
		},
	}
}

// TestWrapIsABucket runs the suite on a wrapped bucket.
func TestWrapIsABucket(t *testing.T) { drivertest.Run(t, suite(memory.Habits{})) }

func FuzzModel(f *testing.F) { drivertest.FuzzModel(f, suite(memory.GCS())) }
