package filesystem

import (
	"context"
	"os"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestConformance runs the suite with fewer keys and parts than
// TestLongConformance.
func TestConformance(t *testing.T) { conform(t, drivertest.Suite{Keys: 2100, Parts: 1000}) }

func TestLongConformance(t *testing.T) {
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("lists 10,000 keys and stores 10,000 parts: set BERTH_TEST_LONG=1 (or run make test-long)")
	}
	conform(t, drivertest.Suite{})
}

// conform runs the suite on a new directory for each case.
func conform(t *testing.T, s drivertest.Suite) {
	s.New = func(t *testing.T) drivertest.Opener {
		cfg := Config{Root: t.TempDir(), Prefix: "some/prefix"}
		return func(ctx context.Context) (drivers.Bucket, error) { return Open(ctx, cfg) }
	}
	drivertest.Run(t, s)
}
