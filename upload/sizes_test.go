package upload

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
)

func TestChooseSizes(t *testing.T) {
	s3 := drivers.Limits{MinPart: 5 * miB, MaxPart: 5 * giB, MaxParts: 10_000}
	r2 := s3
	r2.EqualParts = true
	const part, largest = 16 << 20, 32 << 20 // as with 256 MiB
	for _, tt := range []struct {
		name         string
		limits       drivers.Limits
		have, length int64
		want         sizes
		err          error
	}{
		{"unknown length", s3, 0, -1, sizes{part, largest}, nil},
		{"a chunk of a part's size", s3, 0, part, sizes{part, largest}, nil},
		{"a chunk between minimum and part size", s3, 0, 10 * miB, sizes{10 * miB, largest}, nil},
		{"a chunk of the minimum", s3, 0, 5 * miB, sizes{5 * miB, largest}, nil},
		{"a chunk below the minimum", s3, 0, 5*miB - 1, sizes{part, largest}, nil},
		{"a chunk above the part size", s3, 0, part + 1, sizes{part, largest}, nil},
		{"a chunk after a tail", s3, miB, 10 * miB, sizes{part, largest}, nil},
		{"a tail larger than a part", s3, 20 * miB, -1, sizes{20 * miB, largest}, nil},
		{"60 GiB", s3, 0, 60 * giB, sizes{part, largest}, nil},
		{"300 GiB, all that fits", s3, 0, 1000*part + 9000*largest, sizes{part, largest}, nil},
		{"a byte more needs larger first parts", s3, 0, 1000*part + 9000*largest + 1, sizes{largest, largest}, nil},
		{"all parts of the largest size", s3, 0, 10_000 * largest, sizes{largest, largest}, nil},
		{"one byte more than that", s3, 0, 10_000*largest + 1, sizes{}, ErrTooLarge},
		{"one byte more, part of it there", s3, 1, 10_000 * largest, sizes{}, ErrTooLarge},
		{"1 PiB", s3, 0, 1 << 50, sizes{}, ErrTooLarge},
		{"equal parts, unknown length", r2, 0, -1, sizes{part, part}, nil},
		{"equal parts, a large chunk", r2, 0, giB, sizes{part, part}, nil},
		{"equal parts, all that fits", r2, 0, 10_000 * part, sizes{part, part}, nil},
		{"equal parts, larger ones", r2, 0, 10_000*part + 1, sizes{largest, largest}, nil},
		{"equal parts, too large", r2, 0, 10_000*largest + 1, sizes{}, ErrTooLarge},
		{"no minimum, a small chunk", drivers.Limits{MaxPart: giB, MaxParts: 50_000}, 0, miB, sizes{part, largest}, nil},
	} {
		got, err := chooseSizes(tt.limits, part, largest, tt.have, tt.length)
		if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
			t.Errorf("%s: chooseSizes = %v, want %v", tt.name, err, tt.err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
	}
}

// TestSizesGrow checks that the size of parts doubles every 1,000 parts, up to the
// largest size, and never shrinks.
func TestSizesGrow(t *testing.T) {
	s := sizes{First: 16 * miB, Largest: 100 * miB}
	for n, want := range map[int]int64{
		1: 16 * miB, 1000: 16 * miB, 1001: 32 * miB, 2000: 32 * miB, 2001: 64 * miB, 3000: 64 * miB,
		3001: 100 * miB, 4001: 100 * miB, 1_000_000: 100 * miB,
	} {
		if got := s.of(n); got != want {
			t.Errorf("of(%d) = %d, want %d", n, got, want)
		}
	}
	for _, s := range []sizes{{5, 5}, {5, 6}, {5, 10}, {5, 11}, {7, 3}, {16 << 20, 5 << 30}} {
		var sum int64
		for n := 1; n <= 12_000; n++ {
			size := s.of(n)
			if size > max(s.First, s.Largest) || n > 1 && size < s.of(n-1) || (n-1)%growEvery != 0 && size != s.of(n-1) {
				t.Fatalf("%+v: of(%d) = %d after of(%d) = %d, want steps every %d parts", s, n, size, n-1, s.of(n-1), growEvery)
			}
			sum += size
			if n%997 == 0 || n == 12_000 || n%growEvery < 2 {
				if got := s.capacity(n); got != sum {
					t.Fatalf("%+v: capacity(%d) = %d, want %d", s, n, got, sum)
				}
			}
		}
	}
}

// TestSixtyGiB checks that an upload of unknown length reaches 60 GiB, and counts
// its parts.
func TestSixtyGiB(t *testing.T) {
	s, err := chooseSizes(drivers.Limits{MinPart: 5 * miB, MaxPart: 5 * giB, MaxParts: 10_000}, 16*miB, 32*miB, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	parts, left := 0, 60*giB
	for left > 0 {
		parts++
		left -= s.of(parts)
	}
	if want := 1000 + (60*1024-16_000)/32; parts != want {
		t.Errorf("60 GiB take %d parts, want %d", parts, want)
	}
}
