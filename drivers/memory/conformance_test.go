package memory_test

import (
	"context"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// TestConformance runs the suite with the habits of each store.
func TestConformance(t *testing.T) {
	s3 := memory.S3()
	s3.Limits.MinPart = 100_000 // 5 MiB would only take longer
	r2 := s3
	r2.Limits.EqualParts = true
	for name, habits := range map[string]memory.Habits{
		"directory": {}, "S3": s3, "R2": r2, "GCS": memory.GCS(), "Azure": memory.Azure(),
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, drivertest.Suite{
				Like: habits,
				New: func(*testing.T) drivertest.Opener {
					store := &memory.Store{Habits: habits}
					return func(ctx context.Context) (drivers.Bucket, error) {
						return memory.Open(ctx, memory.Config{Store: store})
					}
				},
			})
		})
	}
}
