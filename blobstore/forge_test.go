package blobstore

import (
	"hash/crc32"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// forge sets the last four bytes of p so that its CRC-32C is want.
//
// Taking in four bytes is the same as adding them to the register and shifting
// 32 zero bits in; so the register that leads to the wanted one is found by
// shifting those out again, and the bytes are what it differs by from the
// register after all that comes before them.
func forge(p []byte, want uint32) {
	table := crc32.MakeTable(crc32.Castagnoli)
	before, last := p[:len(p)-4], p[len(p)-4:]
	register := ^want
	for range 4 {
		for i, entry := range table {
			if entry>>24 == register>>24 {
				register = (register^entry)<<8 | uint32(i)
				break
			}
		}
	}
	register ^= ^drivers.UpdateCRC32C(0, before)
	for i := range last {
		last[i] = byte(register >> (8 * i))
	}
}

// twins are two contents of equal size and equal CRC-32C that begin with the
// same bytes: rest is how many of the last ones are their own, five or more.
func twins(seed uint64, size, rest int) (x, y []byte) {
	x, y = randomBytes(seed, size), randomBytes(seed, size)
	copy(y[size-rest:], randomBytes(seed+1, rest))
	forge(y, drivers.UpdateCRC32C(0, x))
	return x, y
}

func TestForge(t *testing.T) {
	for _, size := range []int{8, 9, 100, 1000} {
		x, y := twins(uint64(size), size, 4+size/2)
		if string(x) == string(y) || drivers.UpdateCRC32C(0, x) != drivers.UpdateCRC32C(0, y) {
			t.Errorf("twins(%d) are %x and %x", size, x, y)
		}
	}
}
