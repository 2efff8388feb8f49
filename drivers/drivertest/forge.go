package drivertest

import (
	"hash/crc32"

	"github.com/berthhq/berth/drivers"
)

// Forge sets the last four bytes of p so that the CRC-32C of p is want. It
// shows that a checksum detects accidents but proves nothing about the content.
//
// Adding four bytes to a CRC is the same as adding them to the register and
// then shifting in 32 zero bits. Forge therefore shifts those 32 bits out of
// the wanted register again. The difference between the result and the register
// after all earlier bytes is the four bytes.
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
