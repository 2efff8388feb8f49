package azure

import (
	"testing"

	"github.com/berthhq/berth/drivers"
)

// BenchmarkSum measures the checksums of a part of 16 MiB in pieces of 64 KiB.
func BenchmarkSum(b *testing.B) {
	var segments [][]byte
	for range 256 {
		segments = append(segments, make([]byte, 64<<10))
	}
	body := drivers.NewBody(segments...)
	b.SetBytes(body.Size)
	for b.Loop() {
		if _, err := send(body); err != nil {
			b.Fatal(err)
		}
	}
}
