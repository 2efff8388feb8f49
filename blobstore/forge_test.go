package blobstore

import (
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// twins returns two contents of equal size and equal CRC-32C. They differ in the last
// rest bytes only, of which there are five or more.
func twins(seed uint64, size, rest int) (x, y []byte) {
	x, y = randomBytes(seed, size), randomBytes(seed, size)
	copy(y[size-rest:], randomBytes(seed+1, rest))
	drivertest.Forge(y, drivers.UpdateCRC32C(0, x))
	return x, y
}

// TestTwins checks that twins differ and have one checksum.
func TestTwins(t *testing.T) {
	for _, size := range []int{8, 9, 100, 1000} {
		x, y := twins(uint64(size), size, 4+size/2)
		if string(x) == string(y) || drivers.UpdateCRC32C(0, x) != drivers.UpdateCRC32C(0, y) {
			t.Errorf("twins(%d) = %x and %x, want different contents with one CRC", size, x, y)
		}
	}
}
