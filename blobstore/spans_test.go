package blobstore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/berthhq/berth/blobstore/internal/header"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

func span(start, end int64) header.Span { return header.Span{Start: start, End: end} }

func TestPlanReads(t *testing.T) {
	read := func(start, end int64, parts int, back bool) storeRead {
		return storeRead{Span: span(start, end), parts: parts, back: back}
	}
	for _, test := range []struct {
		spans []header.Span
		want  []storeRead
	}{
		{[]header.Span{span(0, 10)}, []storeRead{read(0, 10, 1, false)}},
		{[]header.Span{span(0, 10), span(10, 20)}, []storeRead{read(0, 20, 2, false)}},
		{[]header.Span{span(0, 10), span(10+near, 20+near)}, []storeRead{read(0, 20+near, 2, false)}},
		{[]header.Span{span(0, 10), span(11+near, 20+near)}, []storeRead{read(0, 10, 1, false), read(11+near, 20+near, 1, false)}},

		// Back to bytes that are kept.
		{[]header.Span{span(0, 2*near), span(near, 2*near)}, []storeRead{read(0, 2*near, 2, true)}},
		{[]header.Span{span(0, 2*near), span(near-1, 2*near)}, []storeRead{read(0, 2*near, 1, false), read(near-1, 2*near, 1, false)}},
		{[]header.Span{span(0, 2*near), span(near, near+1), span(2*near-1, 3*near), span(3*near-5, 3*near)}, []storeRead{read(0, 3*near, 4, true)}},

		// Before the start of the read, if all of it is kept.
		{[]header.Span{span(near-1, near), span(0, 1), span(5, 6)}, []storeRead{read(0, near, 3, true)}},
		{[]header.Span{span(near, near+1), span(0, 1)}, []storeRead{read(near, near+1, 1, false), read(0, 1, 1, false)}},
		{[]header.Span{span(100, 200), span(0, near+1)}, []storeRead{read(100, 200, 1, false), read(0, near+1, 1, false)}},
	} {
		if got := planReads(test.spans); !slices.Equal(got, test.want) {
			t.Errorf("planReads(%v) = %v, want %v", test.spans, got, test.want)
		}
	}
}

// FuzzSpans copies random spans, many of them close to each other, and tests that
// this returns their bytes with the requests that were planned.
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
		var spans []header.Span
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
			s := span(at, min(size, at+1+rng.Int64N(1+rng.Int64N(3*near))))
			spans = append(spans, s)
			want = append(want, p[s.Start:s.End]...)
			at = s.End
		}
		bucket := &recordingBucket{Bucket: inner}
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
			t.Errorf("seed %d: copies of %v have the wrong bytes", seed, spans)
		}
		if len(bucket.opens) != len(reads) || len(reads) > len(spans) {
			t.Errorf("seed %d: %d spans took %d requests, want %d", seed, len(spans), len(bucket.opens), len(reads))
		}
		if cap(r.kept) > 8*near {
			t.Errorf("seed %d: %d bytes are kept, want at most %d", seed, cap(r.kept), 8*near)
		}
	})
}
