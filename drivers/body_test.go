package drivers

import (
	"bytes"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// TestBodyReader reads bodies of different segments from every offset.
func TestBodyReader(t *testing.T) {
	for _, segments := range [][]string{{}, {""}, {"a"}, {"", "ab", "", "", "cde", ""}, {"abc", "d"}} {
		var parts [][]byte
		var want []byte
		for _, s := range segments {
			parts = append(parts, []byte(s))
			want = append(want, s...)
		}
		b := NewBody(parts...)
		if b.Size != int64(len(want)) || b.CRC32C != crc32.Checksum(want, castagnoli) {
			t.Errorf("NewBody(%q) has size %d and CRC-32C %08x, want those of %q", segments, b.Size, b.CRC32C, want)
		}
		if err := iotest.TestReader(b.Reader(), want); err != nil {
			t.Errorf("NewBody(%q).Reader: %v", segments, err)
		}
		for off := int64(0); off <= b.Size; off++ {
			r := b.Reader()
			if _, err := r.Seek(off, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if n, err := io.Copy(&got, r); err != nil || n != b.Size-off || !bytes.Equal(got.Bytes(), want[off:]) {
				t.Errorf("NewBody(%q).Reader from %d: got %q, %d, %v, want %q", segments, off, got.Bytes(), n, err, want[off:])
			}
		}
		if got := b.Bytes(); !bytes.Equal(got, want) {
			t.Errorf("NewBody(%q).Bytes = %q, want %q", segments, got, want)
		}
	}
}

// TestCombineCRC32C splits bytes at different places.
func TestCombineCRC32C(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 5000)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	for _, n := range []int{0, 1, 2, 3, 255, 256, 4096, 4999, 5000} {
		first, second := data[:n], data[n:]
		got := CombineCRC32C(UpdateCRC32C(0, first), UpdateCRC32C(0, second), int64(len(second)))
		if want := UpdateCRC32C(0, data); got != want {
			t.Errorf("CombineCRC32C of bytes split at %d = %08x, want %08x", n, got, want)
		}
	}
}

func TestEncodeCRC32C(t *testing.T) {
	// The CRC-32C of these digits is its standard check value, e3069283.
	if got, want := EncodeCRC32C(UpdateCRC32C(0, []byte("123456789"))), "4waSgw=="; got != want {
		t.Errorf("EncodeCRC32C = %q, want %q", got, want)
	}
}
