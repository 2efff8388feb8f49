package drivertest_test

import (
	"slices"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestForge forges checksums of bodies of several sizes.
func TestForge(t *testing.T) {
	for _, size := range []int{4, 5, 9, 100, 1000} {
		p := make([]byte, size)
		for i := range p {
			p[i] = byte(i * i)
		}
		before := slices.Clone(p)
		for _, want := range []uint32{0, 1, 0xdeadbeef, 1<<32 - 1} {
			drivertest.Forge(p, want)
			if got := drivers.UpdateCRC32C(0, p); got != want || !slices.Equal(p[:size-4], before[:size-4]) {
				t.Errorf("CRC-32C after Forge of %d bytes = %08x, want %08x and unchanged bytes before the last four", size, got, want)
			}
		}
	}
}
