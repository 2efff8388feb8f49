package catalog_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
)

// TestRaiseLimits checks that each limit is the largest of any process, whatever the
// order in which they start.
func TestRaiseLimits(t *testing.T) {
	b := openBucket(t)
	if _, err := catalog.New(b).ReadLimits(t.Context()); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("ReadLimits of an empty bucket = %v, want %v", err, drivers.ErrNotFound)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			n := time.Duration(i)
			limits := catalog.Limits{Request: n * time.Hour, Cache: (8 - n) * time.Minute, Session: n, URL: time.Second}
			if err := catalog.New(b).RaiseLimits(t.Context(), limits); err != nil {
				t.Errorf("RaiseLimits = %v, want nil", err)
			}
		})
	}
	wg.Wait()
	want := catalog.Limits{Request: 7 * time.Hour, Cache: 8 * time.Minute, Session: 7, URL: time.Second}
	if got, err := catalog.New(b).ReadLimits(t.Context()); got != want || err != nil {
		t.Errorf("ReadLimits = %+v, %v, want %+v", got, err, want)
	}
}

// TestRaiseLimitsFaults checks that a retry raises the limits after any fault.
func TestRaiseLimitsFaults(t *testing.T) {
	low, high := catalog.Limits{Request: time.Hour}, catalog.Limits{Request: 2 * time.Hour}
	for _, setUp := range []func(*testing.T, drivers.Bucket){
		func(*testing.T, drivers.Bucket) {},
		func(t *testing.T, b drivers.Bucket) {
			if err := catalog.New(b).RaiseLimits(t.Context(), low); err != nil {
				t.Fatal(err)
			}
		},
	} {
		raise := func(ctx context.Context, c *catalog.Catalog) error { return c.RaiseLimits(ctx, high) }
		eachFault(t, setUp, raise, func(t *testing.T, b drivers.Bucket, _ error) {
			if err := catalog.New(b).RaiseLimits(t.Context(), high); err != nil {
				t.Fatal(err)
			}
			if got, err := catalog.New(b).ReadLimits(t.Context()); got != high || err != nil {
				t.Errorf("ReadLimits after a retry = %+v, %v, want %+v", got, err, high)
			}
		})
	}
}
