package drivertest

import (
	"hash/crc32"

	"github.com/berthhq/berth/drivers"
)

// Forge sets the last four bytes of p so that its CRC-32C is want: a checksum
// finds accidents, and proves nothing.
//
// Taking in four bytes is the same as adding them to the register and shifting
// 32 zero bits in; so the register that leads to the wanted one is found by
// shifting those out again, and the bytes are what it differs by from the
// register after all that comes before them.
func Forge(p []byte, want uint32) {
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
