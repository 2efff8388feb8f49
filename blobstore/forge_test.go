package blobstore

import (
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// twins are two contents of equal size and equal CRC-32C that begin with the
// same bytes: rest is how many of the last ones are their own, five or more.
func twins(seed uint64, size, rest int) (x, y []byte) {
	x, y = randomBytes(seed, size), randomBytes(seed, size)
	copy(y[size-rest:], randomBytes(seed+1, rest))
	drivertest.Forge(y, drivers.UpdateCRC32C(0, x))
	return x, y
}

func TestTwins(t *testing.T) {
	for _, size := range []int{8, 9, 100, 1000} {
		x, y := twins(uint64(size), size, 4+size/2)
		if string(x) == string(y) || drivers.UpdateCRC32C(0, x) != drivers.UpdateCRC32C(0, y) {
			t.Errorf("twins(%d) are %x and %x", size, x, y)
		}
	}
}
