package drivers

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// Body is the bytes of one write, all of them in memory, in one slice or more.
// It can be read any number of times, as retries need.
type Body struct {
	Segments [][]byte
	Size     int64  // sum of the lengths of Segments, in bytes
	CRC32C   uint32 // of all of them in turn
}

// NewBody returns a Body of these slices, one after the other, and computes its
// checksum. A caller that knows the checksum can fill in a Body itself.
func NewBody(segments ...[]byte) Body {
	b := Body{Segments: segments}
	for _, s := range segments {
		b.Size += int64(len(s))
		b.CRC32C = UpdateCRC32C(b.CRC32C, s)
	}
	return b
}

// Reader returns a reader at the start of the Body.
func (b Body) Reader() io.ReadSeeker { return &bodyReader{body: b} }

// Bytes returns a copy of the Body in one slice.
func (b Body) Bytes() []byte {
	p := make([]byte, 0, b.Size)
	for _, s := range b.Segments {
		p = append(p, s...)
	}
	return p
}

// bodyReader reads a Body. off is in the segment seg, at in.
type bodyReader struct {
	body Body
	off  int64
	seg  int
	in   int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	for r.seg < len(r.body.Segments) && r.in == len(r.body.Segments[r.seg]) {
		r.seg, r.in = r.seg+1, 0
	}
	if r.seg >= len(r.body.Segments) {
		return 0, io.EOF
	}
	n := copy(p, r.body.Segments[r.seg][r.in:])
	r.in += n
	r.off += int64(n)
	return n, nil
}

// WriteTo writes whole segments, so that io.Copy needs no buffer.
func (r *bodyReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for ; r.seg < len(r.body.Segments); r.seg, r.in = r.seg+1, 0 {
		n, err := w.Write(r.body.Segments[r.seg][r.in:])
		total += int64(n)
		r.off += int64(n)
		r.in += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (r *bodyReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += r.body.Size
	}
	if offset < 0 {
		return 0, errors.New("drivers: seek before the start of a body")
	}
	r.off, r.seg = offset, 0
	for r.seg < len(r.body.Segments) && offset >= int64(len(r.body.Segments[r.seg])) {
		offset -= int64(len(r.body.Segments[r.seg]))
		r.seg++
	}
	r.in = int(offset)
	if r.seg == len(r.body.Segments) {
		r.in = 0
	}
	return r.off, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// UpdateCRC32C returns crc extended by p. The checksum of no bytes is 0.
func UpdateCRC32C(crc uint32, p []byte) uint32 { return crc32.Update(crc, castagnoli, p) }

// EncodeCRC32C returns crc in the form of HTTP headers and of the stores' APIs:
// its four bytes, big-endian, in base64.
func EncodeCRC32C(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

// CombineCRC32C returns the CRC-32C of two byte strings, one after the other,
// given the checksum of each and the length of the second in bytes. It follows zlib's
// crc32_combine: appending n zero bytes to a message is a linear map over
// GF(2), and that map's powers are found by squaring.
func CombineCRC32C(first, second uint32, secondLen int64) uint32 {
	if secondLen <= 0 {
		return first
	}
	var odd, even matrix
	odd[0] = crc32.Castagnoli // one zero bit
	for n := 1; n < 32; n++ {
		odd[n] = 1 << (n - 1)
	}
	even.square(&odd) // two zero bits
	odd.square(&even) // four
	for {
		even.square(&odd) // in the first round eight zero bits, which are one byte
		if secondLen&1 != 0 {
			first = even.times(first)
		}
		if secondLen >>= 1; secondLen == 0 {
			break
		}
		odd.square(&even)
		if secondLen&1 != 0 {
			first = odd.times(first)
		}
		if secondLen >>= 1; secondLen == 0 {
			break
		}
	}
	return first ^ second
}

// matrix is a linear map of 32-bit vectors over GF(2), by columns.
type matrix [32]uint32

func (m *matrix) times(v uint32) uint32 {
	var sum uint32
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

func (m *matrix) square(of *matrix) {
	for i := range m {
		m[i] = of.times(of[i])
	}
}
