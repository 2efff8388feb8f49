package catalog_test

import (
	"context"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// beforeFirst returns b with an intercept that calls do before the first call of a method
// for a key.
func beforeFirst(b drivers.Bucket, method, key string, do func()) drivers.Bucket {
	done := false
	return drivertest.Wrap(b, func(ctx context.Context, c drivertest.Call, call func(context.Context) error) error {
		if c.Method == method && c.Key == key && !done {
			done = true
			do()
		}
		return call(ctx)
	})
}

// TestRaiseLimitsMeetsAnother lets another process raise the limits before each write.
func TestRaiseLimitsMeetsAnother(t *testing.T) {
	for _, method := range []string{"Create", "Replace"} {
		b := openBucket(t)
		raise := func(b drivers.Bucket, limits catalog.Limits) {
			t.Helper()
			if err := catalog.New(b).RaiseLimits(t.Context(), limits); err != nil {
				t.Fatal(err)
			}
		}
		if method == "Replace" {
			raise(b, catalog.Limits{Request: time.Hour})
		}
		met := beforeFirst(b, method, catalog.LimitsKey, func() { raise(b, catalog.Limits{Request: time.Hour, Cache: time.Minute}) })
		raise(met, catalog.Limits{Request: 2 * time.Hour})
		want := catalog.Limits{Request: 2 * time.Hour, Cache: time.Minute}
		if got, err := catalog.New(b).ReadLimits(t.Context()); got != want || err != nil {
			t.Errorf("ReadLimits after a conflict of a %s = %+v, %v, want %+v", method, got, err, want)
		}
	}
}

// TestWriteEntryMeetsAnother lets another push write the same entry first.
func TestWriteEntryMeetsAnother(t *testing.T) {
	subject, referrer := digest.FromString("subject"), digest.FromString("referrer")
	b := openBucket(t)
	write := func(b drivers.Bucket) {
		t.Helper()
		if err := catalog.New(b).WriteEntry(t.Context(), due(), "a", subject, referrer); err != nil {
			t.Fatal(err)
		}
	}
	key := catalog.EntryKey("a", subject, referrer)
	write(beforeFirst(b, "Create", key, func() { write(b) }))
	write(beforeFirst(b, "Replace", key, func() { write(b) }))
}
