package drivers

import "fmt"

// CheckParts checks the arguments of [Bucket.Complete] that are known without
// the store, and returns the size of the object in bytes. It returns an error
// unless there are 1 to limits.MaxParts parts, their numbers ascend within that
// range, all but the last have at least limits.MinPart bytes, and their
// CRC-32Cs combine to crc32c. It does not check limits.EqualParts, because an
// upload may be older than that setting.
func CheckParts(parts []Part, crc32c uint32, limits Limits) (size int64, err error) {
	if len(parts) == 0 || len(parts) > limits.MaxParts {
		return 0, fmt.Errorf("%d parts, want 1 to %d", len(parts), limits.MaxParts)
	}
	var crc uint32
	for i, p := range parts {
		switch {
		case p.Number < 1 || p.Number > limits.MaxParts:
			return 0, fmt.Errorf("part number %d, want 1 to %d", p.Number, limits.MaxParts)
		case i > 0 && p.Number <= parts[i-1].Number:
			return 0, fmt.Errorf("part %d comes after part %d", p.Number, parts[i-1].Number)
		case i < len(parts)-1 && p.Size < limits.MinPart:
			return 0, fmt.Errorf("part %d has %d bytes, want at least %d", p.Number, p.Size, limits.MinPart)
		}
		size += p.Size
		crc = CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	if crc != crc32c {
		return 0, fmt.Errorf("the parts have CRC-32C %08x, want %08x", crc, crc32c)
	}
	return size, nil
}
