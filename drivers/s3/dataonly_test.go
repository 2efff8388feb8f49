package s3

import (
	"context"
	"errors"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
	"github.com/berthhq/berth/drivers/memory"
)

// TestDataOnly runs the cases of a bucket for data only on a store that answers 501 to
// every condition, as Backblaze B2 does, and on one that ignores conditions. An upload
// needs the store to keep what was written last.
func TestDataOnly(t *testing.T) {
	t.Parallel()
	for name, knobs := range map[string]s3double.Knobs{
		"no conditions":      {Conditions: s3double.Unsupported},
		"ignored conditions": {Conditions: s3double.Ignored, CompleteIgnores: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			knobs.MinPart = smallPart
			s := s3double.New(t, knobs)
			drivertest.Run(t, drivertest.Suite{
				Like:     memory.S3(),
				DataOnly: true,
				Keys:     50, Parts: 3, Workers: 4,
				New: func(*testing.T) drivertest.Opener {
					cfg := newBucketOfDouble(s)
					cfg.DataOnly = true
					return func(ctx context.Context) (drivers.Bucket, error) {
						b, err := Open(ctx, cfg)
						if err == nil {
							b.(*bucket).limits.MinPart = smallPart
						}
						return b, err
					}
				},
			})
		})
	}
}

// TestDataOnlyConditions checks that a bucket for data only refuses conditional writes.
func TestDataOnlyConditions(t *testing.T) {
	t.Parallel()
	cfg := newBucketOfDouble(s3double.New(t, s3double.Knobs{Conditions: s3double.Unsupported}))
	if _, err := Open(t.Context(), cfg); err == nil {
		t.Error("Open of a store without conditions succeeds, want an error unless DataOnly is set")
	}
	cfg.DataOnly = true
	b := openBucket(t, cfg)
	o, err := b.Create(t.Context(), "data/new/k", drivers.NewBody([]byte("one")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Replace(t.Context(), o.Key, o.Tag, drivers.NewBody([]byte("two"))); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Replace = %v, want errors.ErrUnsupported", err)
	}
	if err := b.DeleteIf(t.Context(), o.Key, o.Tag); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("DeleteIf = %v, want errors.ErrUnsupported", err)
	}
}
