package memory_test

import (
	"context"
	"os"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// TestConformance runs the suite with the habits of each store. The listings of
// many keys, and the upload of many parts, are small except with the habits of a
// directory. TestLongConformance has large ones with all habits.
func TestConformance(t *testing.T) {
	conform(t, drivertest.Suite{Keys: 2100, Parts: 100})
	t.Run("directory, large", func(t *testing.T) {
		drivertest.Run(t, suite(memory.Habits{}, drivertest.Suite{Cases: []string{"ListLarge", "ListWhileChanging", "ManyParts", "UploadsLarge"}}))
	})
}

// TestLongConformance runs the suite with many keys and parts.
func TestLongConformance(t *testing.T) {
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("lists 10,000 keys and stores 10,000 parts with five habits: set BERTH_TEST_LONG=1 (or run make test-long)")
	}
	conform(t, drivertest.Suite{})
}

// conform runs the suite with the habits of each store.
func conform(t *testing.T, s drivertest.Suite) {
	s3 := memory.S3()
	s3.Limits.MinPart = 100_000 // 5 MiB would only take longer
	r2 := s3
	r2.Limits.EqualParts = true
	for name, habits := range map[string]memory.Habits{
		"directory": {}, "S3": s3, "R2": r2, "GCS": memory.GCS(), "Azure": memory.Azure(),
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, suite(habits, s))
		})
	}
}

// suite returns s for stores with these habits.
func suite(habits memory.Habits, s drivertest.Suite) drivertest.Suite {
	s.Like = habits
	s.New = func(*testing.T) drivertest.Opener {
		store := &memory.Store{Habits: habits}
		return func(ctx context.Context) (drivers.Bucket, error) {
			return memory.Open(ctx, memory.Config{Store: store})
		}
	}
	return s
}
