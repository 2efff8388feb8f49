package upload

import (
	"github.com/berthhq/berth/drivers"
)

// growEvery is the number of parts after which the size of a part doubles.
const growEvery = 1000

// leastFirst is the smallest first body that sets the size of the parts, in
// bytes, even where the store takes smaller parts.
const leastFirst = 5 << 20

// sizes are the sizes of an upload's parts. They are fixed when the multipart
// upload is started, and recorded, so that a client that sends the same bytes
// again stores the same parts under the same numbers.
type sizes struct {
	First   int64 `json:"first"`   // size of the first parts, in bytes
	Largest int64 `json:"largest"` // size up to which parts grow
}

// of returns the size of part n, from 1.
func (s sizes) of(n int) int64 {
	size := s.First
	for range (n - 1) / growEvery {
		if size >= s.Largest/2 {
			return max(s.First, s.Largest)
		}
		size *= 2
	}
	return size
}

// capacity returns the number of bytes that fit into a number of parts.
func (s sizes) capacity(parts int) int64 {
	var total int64
	for n := 0; n < parts; n += growEvery {
		total += s.of(n+1) * int64(min(growEvery, parts-n))
	}
	return total
}

// chooseSizes returns the sizes for an upload that has have bytes, and to which
// length more bytes come (-1 if that is not known). It returns ErrTooLarge if the
// upload does not fit into parts of at most largest bytes.
func chooseSizes(limits drivers.Limits, partSize, largest, have, length int64) (sizes, error) {
	s := sizes{First: max(partSize, limits.MinPart, have), Largest: largest}
	least := max(limits.MinPart, min(leastFirst, partSize))
	switch {
	case limits.EqualParts:
		s.Largest = s.First
	case have == 0 && least <= length && length <= partSize:
		s.First = length // each chunk of the client becomes a part
	}
	for length >= 0 && s.capacity(limits.MaxParts)-have < length {
		if s.First >= largest {
			return sizes{}, ErrTooLarge
		}
		s.First = min(2*s.First, largest)
		if limits.EqualParts {
			s.Largest = s.First
		}
	}
	return s, nil
}
