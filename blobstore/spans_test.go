package blobstore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

func TestPlanReads(t *testing.T) {
	for _, test := range []struct {
		spans []span
		want  []read
	}{
		{[]span{{0, 10}}, []read{{span{0, 10}, 1, false}}},
		{[]span{{0, 10}, {10, 20}}, []read{{span{0, 20}, 2, false}}},
		{[]span{{0, 10}, {10 + near, 20 + near}}, []read{{span{0, 20 + near}, 2, false}}},
		{[]span{{0, 10}, {11 + near, 20 + near}}, []read{{span{0, 10}, 1, false}, {span{11 + near, 20 + near}, 1, false}}},

		// Back, as far as is kept.
		{[]span{{0, 2 * near}, {near, 2 * near}}, []read{{span{0, 2 * near}, 2, true}}},
		{[]span{{0, 2 * near}, {near - 1, 2 * near}}, []read{{span{0, 2 * near}, 1, false}, {span{near - 1, 2 * near}, 1, false}}},
		{[]span{{0, 2 * near}, {near, near + 1}, {2*near - 1, 3 * near}, {3*near - 5, 3 * near}}, []read{{span{0, 3 * near}, 4, true}}},

		// To before the first, if all is kept.
		{[]span{{near - 1, near}, {0, 1}, {5, 6}}, []read{{span{0, near}, 3, true}}},
		{[]span{{near, near + 1}, {0, 1}}, []read{{span{near, near + 1}, 1, false}, {span{0, 1}, 1, false}}},
		{[]span{{100, 200}, {0, near + 1}}, []read{{span{100, 200}, 1, false}, {span{0, near + 1}, 1, false}}},
	} {
		if got := planReads(test.spans); !slices.Equal(got, test.want) {
			t.Errorf("planReads(%v) = %v, want %v", test.spans, got, test.want)
		}
	}
}

// FuzzSpans copies random spans, many of them close to each other, and wants
// their bytes, by the requests that were planned.
func FuzzSpans(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(seed)
	}
	const size = 600_000
	p := randomBytes(1, size)
	ctx := context.Background()
	inner, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		f.Fatal(err)
	}
	const key = drivers.BulkPrefix + "x"
	if _, err := inner.Create(ctx, key, drivers.NewBody(p)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var spans []span
		var want []byte
		at := rng.Int64N(size)
		for range 1 + rng.IntN(20) {
			switch rng.IntN(8) {
			case 0:
				at = rng.Int64N(size)
			case 1, 2, 3:
				at += rng.Int64N(2*near) - near
			default:
				at += rng.Int64N(2000) - 500
			}
			at = min(max(at, 0), size-1)
			s := span{at, min(size, at+1+rng.Int64N(1+rng.Int64N(3*near)))}
			spans = append(spans, s)
			want = append(want, p[s.start:s.end]...)
			at = s.end
		}
		bucket := &asked{Bucket: inner}
		d := &dataReader{bucket: bucket, key: key, size: size}
		d.ctx, d.cancel = context.WithCancel(t.Context())
		defer func() { _ = d.Close() }() // never an error
		reads := planReads(spans)
		r := newSpanReader(d, slices.Clone(reads))
		var got bytes.Buffer
		for _, s := range spans {
			if err := r.copy(&got, s); err != nil {
				t.Fatalf("seed %d: copy of %v of %v: %v", seed, s, spans, err)
			}
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("seed %d: copies of %v are other bytes", seed, spans)
		}
		if len(bucket.opens) != len(reads) || len(reads) > len(spans) {
			t.Errorf("seed %d: %d spans took %d requests, want %d", seed, len(spans), len(bucket.opens), len(reads))
		}
		if cap(r.kept) > 8*near {
			t.Errorf("seed %d: %d bytes are kept", seed, cap(r.kept))
		}
	})
}
