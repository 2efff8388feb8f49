package blobstore

import (
	"context"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
)

// TestMoveThatMayHaveHappened loses the answer to a tag that was moved. Other processes
// then move the tag on, and delete the manifest and its config. A response that the
// manifest cannot be stored would deny that the tag was moved.
func TestMoveThatMayHaveHappened(t *testing.T) {
	p := newPushes(t, Config{})
	old, put := imageOf(p.blob("old")).tagged("v1"), imageOf(p.blob("config")).tagged("v1")
	p.mustPut(old)
	p.mustPut(put.tagged())
	f := &drivertest.Faulty{Mode: drivertest.Unanswered, Nth: 1, Match: func(c drivertest.Call) bool { return isCall(c, "Replace tag") }}
	p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := f.Intercept(ctx, c, do)
		if errors.Is(err, drivertest.ErrInjected) {
			p.mustPut(old)
			p.mustDelete(put.Digest)
			must(t, p.another().Delete(ctx, digest.FromString("config")))
		}
		return err
	}
	if err := p.put(put); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Put = %v, want %v", err, ErrUnavailable)
	}
}
