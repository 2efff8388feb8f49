package filesystem

import (
	"context"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Suite{
		New: func(t *testing.T) drivertest.Opener {
			cfg := Config{Root: t.TempDir(), Prefix: "some/prefix"}
			return func(ctx context.Context) (drivers.Bucket, error) { return Open(ctx, cfg) }
		},
	})
}
