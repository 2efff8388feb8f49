package memory_test

import (
	"fmt"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// BenchmarkPutPart stores a part of 16 MiB, with the habits of several stores.
func BenchmarkPutPart(b *testing.B) {
	body := drivers.NewBody(make([]byte, 16<<20))
	for name, s := range map[string]*memory.Store{
		"S3": {Habits: memory.S3()}, "GCS": {Habits: memory.GCS()}, "S3 discarding": {Habits: memory.S3(), Discard: true},
	} {
		b.Run(name, func(b *testing.B) {
			bucket, err := memory.Open(b.Context(), memory.Config{Store: s})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(body.Size)
			for b.Loop() {
				u, err := bucket.StartUpload(b.Context(), "data/k")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := bucket.PutPart(b.Context(), u, 1, body); err != nil {
					b.Fatal(err)
				}
				if err := bucket.Abort(b.Context(), u); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCreateList creates small objects, and then lists one object in a
// bucket of 100,000.
func BenchmarkCreateList(b *testing.B) {
	ctx := b.Context()
	bucket, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		b.Fatal(err)
	}
	body := drivers.NewBody([]byte("a record"))
	n := 0
	create := func(b *testing.B) {
		if _, err := bucket.Create(ctx, fmt.Sprintf("k/%09d", n*7919%1_000_000_000), body); err != nil {
			b.Fatal(err)
		}
		n++
	}
	for range 100_000 {
		create(b)
	}
	b.Run("Create", func(b *testing.B) {
		for b.Loop() {
			create(b)
		}
	})
	b.Run("List", func(b *testing.B) {
		for b.Loop() {
			for _, err := range bucket.List(ctx, "k/000007919", "", 0) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
