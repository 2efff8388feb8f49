package catalog_test

import (
	"context"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

func openBucket(t *testing.T) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func due() deadline.Deadline { return deadline.New(time.Hour) }

// stored returns the content of bytes that are stored in b under a new data key.
func stored(t *testing.T, b drivers.Bucket, p string) catalog.Content {
	t.Helper()
	c := catalog.Content{Digest: digest.FromString(p), Size: int64(len(p)), Key: catalog.NewDataKey("")}
	create(t, b, c.Key, p)
	return c
}

// inline returns the content of bytes that belong in the record.
func inline(p string) catalog.Content {
	return catalog.Content{Digest: digest.FromString(p), Size: int64(len(p)), Inline: []byte(p)}
}

// dropped returns the content of bytes that were discarded.
func dropped(p string) catalog.Content {
	return catalog.Content{Digest: digest.FromString(p), Size: int64(len(p)), Dropped: true}
}

func create(t *testing.T, b drivers.Bucket, key, data string) {
	t.Helper()
	if _, err := b.Create(t.Context(), key, drivers.NewBody([]byte(data))); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, b drivers.Bucket, key string) {
	t.Helper()
	if err := b.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// ensure makes content a blob, and returns its record.
func ensure(t *testing.T, b drivers.Bucket, content catalog.Content) catalog.StoredRecord {
	t.Helper()
	rec, err := catalog.New(b).EnsureRecord(t.Context(), due(), content)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// setState gives an existing record another state, as the collector does.
func setState(t *testing.T, b drivers.Bucket, rec catalog.StoredRecord, state catalog.State) catalog.StoredRecord {
	t.Helper()
	rec.Value.State = state
	next, err := envelope.Replace(t.Context(), b, rec.Object.Key, rec.Object.Tag, rec.Value, drivers.NewBody(rec.Raw))
	if err != nil {
		t.Fatal(err)
	}
	next.Raw = rec.Raw
	return next
}

// deadKeys returns the data keys in the dead list.
func deadKeys(t *testing.T, b drivers.Bucket) []string {
	t.Helper()
	var keys []string
	for o, err := range b.List(t.Context(), catalog.DeadPrefix, "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		dead, err := envelope.Read[catalog.Dead](t.Context(), b, o.Key)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, dead.Value.Data)
	}
	return keys
}

// eachFault runs do once for each of its calls to the bucket, in each mode: the
// call fails before or after it takes effect. do gets a catalog on the faulty
// bucket. Afterwards check gets the bucket and the error of do.
func eachFault(t *testing.T, setUp func(*testing.T, drivers.Bucket), do func(context.Context, *catalog.Catalog) error,
	check func(t *testing.T, b drivers.Bucket, err error)) {
	t.Helper()
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
		for n := 1; ; n++ {
			b := openBucket(t)
			setUp(t, b)
			f := &drivertest.Faulty{Mode: mode, Nth: n}
			err := do(t.Context(), catalog.New(drivertest.Wrap(b, f.Intercept)))
			call, hit := f.Hit()
			if !hit {
				if n == 1 || err != nil {
					t.Errorf("without a fault, after %d calls: %v, want nil after at least one", n-1, err)
				}
				break
			}
			t.Run(mode.String()+" "+call.Method, func(t *testing.T) { check(t, b, err) })
		}
	}
}
