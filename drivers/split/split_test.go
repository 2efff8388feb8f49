package split_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/drivers/split"
)

// TestConformance runs the suite on pairs of stores. Seen from above, a pair is a bucket
// like any other.
func TestConformance(t *testing.T) {
	s3 := memory.S3()
	s3.Limits.MinPart = 100_000 // 5 MiB would only take longer
	for name, pair := range map[string]struct{ records, data memory.Habits }{
		"directory and S3": {memory.Habits{}, s3},
		"GCS and Azure":    {memory.GCS(), memory.Azure()},
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, drivertest.Suite{
				Like: pair.data,
				Keys: 2100, Parts: 100,
				New: func(*testing.T) drivertest.Opener {
					records, data := &memory.Store{Habits: pair.records}, &memory.Store{Habits: pair.data}
					return func(ctx context.Context) (drivers.Bucket, error) {
						b, _, _, err := open(ctx, records, data)
						return b, err
					}
				},
			})
		})
	}
}

// open returns a pair of stores, and both by themselves.
func open(ctx context.Context, recordStore, dataStore *memory.Store) (b, records, data drivers.Bucket, err error) {
	if records, err = memory.Open(ctx, memory.Config{Store: recordStore}); err == nil {
		data, err = memory.Open(ctx, memory.Config{Store: dataStore})
	}
	return split.New(records, data), records, data, err
}

// TestListBoth lists prefixes that both buckets have keys under.
func TestListBoth(t *testing.T) {
	ctx := t.Context()
	b, records, data, err := open(ctx, &memory.Store{}, &memory.Store{})
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{"a/1", "blobs/1", "data/new/1", "data/new/2", "meta/1", "uploads/1"}
	create(t, b, keys)
	if got, want := list(t, records, "", ""), []string{"a/1", "blobs/1", "meta/1", "uploads/1"}; !slices.Equal(got, want) {
		t.Errorf("the bucket of the records has %q, want %q", got, want)
	}
	if got, want := list(t, data, "", ""), []string{"data/new/1", "data/new/2"}; !slices.Equal(got, want) {
		t.Errorf("the bucket of the data has %q, want %q", got, want)
	}
	for _, prefix := range []string{"", "d", "data", "data/", "data/new/", "m", "x"} {
		for _, after := range append(keys, "", "data/new/", "data/z", "z") {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			if got := list(t, b, prefix, after); !slices.Equal(got, want) {
				t.Errorf("List(%q, %q) = %q, want %q", prefix, after, got, want)
			}
		}
	}
	for _, err := range b.List(ctx, "", "", 1) {
		if err != nil {
			t.Fatal(err)
		}
		break // must not panic
	}
	if err := b.Delete(ctx, "a/1", "data/new/1", "meta/1", "absent"); err != nil {
		t.Errorf("Delete of keys of both = %v", err)
	}
	if got, want := list(t, b, "", ""), []string{"blobs/1", "data/new/2", "uploads/1"}; !slices.Equal(got, want) {
		t.Errorf("after Delete there are %q, want %q", got, want)
	}
}

// create creates objects.
func create(t *testing.T, b drivers.Bucket, keys []string) {
	t.Helper()
	for _, key := range keys {
		if _, err := b.Create(t.Context(), key, drivers.NewBody([]byte(key))); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, b drivers.Bucket, prefix, after string) (keys []string) {
	t.Helper()
	for o, err := range b.List(t.Context(), prefix, after, 0) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}
