package blobstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	one := func(start, end int64) wanted { return wanted{[]span{{start, end}}, true} }
	odd := func(spans ...span) wanted { return wanted{spans, false} }
	ignored, all := wanted{plain: true}, wanted{}
	const max64, more = "9223372036854775807", "18446744073709551616"
	for _, test := range []struct {
		header string
		size   int64
		want   wanted
		bad    bool
	}{
		{"", 100, ignored, false},
		{"bytes=0-", 100, one(0, 100), false},
		{"bytes=7-", 100, one(7, 100), false},
		{"bytes=7-9", 100, one(7, 10), false},
		{"bytes=7-7", 100, one(7, 8), false},
		{"bytes=0-99", 100, one(0, 100), false},
		{"bytes=0-98", 100, one(0, 99), false},
		{"bytes=99-", 100, one(99, 100), false},
		{"bytes=7-100", 100, one(7, 100), false},
		{"bytes=007-009", 100, one(7, 10), false},
		{"bytes=7-" + max64, 100, one(7, 100), false},
		{"bytes=7-" + more, 100, one(7, 100), false},

		// The last bytes.
		{"bytes=-1", 100, odd(span{99, 100}), false},
		{"bytes=-10", 100, odd(span{90, 100}), false},
		{"bytes=-100", 100, odd(span{0, 100}), false},
		{"bytes=-1000", 100, odd(span{0, 100}), false},
		{"bytes=-" + max64, 100, odd(span{0, 100}), false},
		{"bytes=-" + more, 100, odd(span{0, 100}), false},

		// Spelled in another way.
		{"Bytes=0-1", 100, odd(span{0, 2}), false},
		{"bytes= 0-1", 100, odd(span{0, 2}), false},
		{"bytes=0-1\t", 100, odd(span{0, 2}), false},
		{"bytes=,0-1,", 100, odd(span{0, 2}), false},

		// Several, in their order.
		{"bytes=0-0,7-", 100, odd(span{0, 1}, span{7, 100}), false},
		{"bytes=7-9 , -5,0-1", 100, odd(span{7, 10}, span{95, 100}, span{0, 2}), false},
		{"bytes=7-9,8-10,9-11", 100, odd(span{7, 10}, span{8, 11}, span{9, 12}), false},
		{"bytes=0-1,100-200,2-3,-0", 100, odd(span{0, 2}, span{2, 4}), false},
		{"bytes=0-1,100-", 100, odd(span{0, 2}), false},

		// At a cost that is not paid.
		{"bytes=0-98,0-0,5-5", 100, all, false},
		{"bytes=0-,0-", 100, all, false},
		{"bytes=-100,0-0", 100, all, false},
		{"bytes=" + strings.Repeat("0-0,", 100), 100, odd(slices.Repeat([]span{{0, 1}}, 100)...), false},
		{"bytes=" + strings.Repeat("0-0,", 101), 100, all, false},
		{"bytes=" + strings.Repeat("0-0,", maxRanges), 1 << 20, odd(slices.Repeat([]span{{0, 1}}, maxRanges)...), false},
		{"bytes=" + strings.Repeat("0-0,", maxRanges+1), 1 << 20, all, false},
		{"bytes=" + strings.Repeat("-0,", maxRanges) + "0-0", 1 << 20, all, false},
		{"bytes=" + strings.Repeat("0-,", 30_000), 1 << 62, all, false},

		// Not in the blob.
		{"bytes=100-", 100, wanted{}, true},
		{"bytes=100-200", 100, wanted{}, true},
		{"bytes=" + more + "-", 100, wanted{}, true},
		{"bytes=-0", 100, wanted{}, true},
		{"bytes=-0,100-", 100, wanted{}, true},

		// An empty blob has no ranges.
		{"bytes=0-", 0, ignored, false},
		{"bytes=-5", 0, all, false},
		{"bytes=5-9", 0, ignored, false},
		{"bytes=5-2", 0, wanted{}, true},

		// Malformed.
		{"bytes=", 100, wanted{}, true},
		{"bytes= , ", 100, wanted{}, true},
		{"bytes=-", 100, wanted{}, true},
		{"bytes=--1", 100, wanted{}, true},
		{"bytes=-+1", 100, wanted{}, true},
		{"bytes=-1-", 100, wanted{}, true},
		{"bytes=1", 100, wanted{}, true},
		{"bytes=+1-2", 100, wanted{}, true},
		{"bytes=1-+2", 100, wanted{}, true},
		{"bytes=1 -2", 100, wanted{}, true},
		{"bytes=1- 2", 100, wanted{}, true},
		{"bytes=1-2-3", 100, wanted{}, true},
		{"bytes=a-b", 100, wanted{}, true},
		{"bytes=0x1-2", 100, wanted{}, true},
		{"bytes=9-7", 100, wanted{}, true},
		{"bytes=200-100", 100, wanted{}, true},
		{"bytes=0-1;2-3", 100, wanted{}, true},
		{"bytes=0-1,9-7", 100, wanted{}, true},
		{"bytes=" + strings.Repeat("0-0,", maxRanges+1) + "x", 100, wanted{}, true},

		// Of another unit, or of none.
		{"bits=0-1", 100, ignored, false},
		{"seconds=x", 100, ignored, false},
		{"bytes =0-1", 100, ignored, false},
		{"bytes", 100, ignored, false},
		{"=0-1", 100, ignored, false},
		{"0-1", 100, ignored, false},
	} {
		got, err := parseRange(test.header, test.size)
		switch {
		case test.bad && !errors.Is(err, ErrRange{test.size}):
			t.Errorf("parseRange(%.60q, %d) = %v, %v, want an ErrRange", test.header, test.size, got, err)
		case !test.bad && (err != nil || got.plain != test.want.plain || !slices.Equal(got.spans, test.want.spans)):
			t.Errorf("parseRange(%.60q, %d) = %v, %v, want %v", test.header, test.size, got, err, test.want)
		}
	}
}

// FuzzParseRange wants that whatever is parsed stays within its limits, and is
// parsed to the same ranges once it is written out.
func FuzzParseRange(f *testing.F) {
	for _, h := range []string{"", "bytes=0-1", "bytes=-5,7-", "bytes=5-2", "bytes=0-18446744073709551615", "bytes= ,0-0,, 3-9", "BYTES=--1"} {
		f.Add(h, int64(100))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		size = max(size, 0)
		got, err := parseRange(header, size)
		if err != nil {
			if got.spans != nil || !errors.Is(err, ErrRange{size}) {
				t.Fatalf("parseRange(%q, %d) = %v, %v", header, size, got, err)
			}
			return
		}
		var specs []string
		left := size
		for _, s := range got.spans {
			if s.start < 0 || s.end <= s.start || s.end > size || s.end-s.start > left {
				t.Fatalf("parseRange(%q, %d) has %v, with %d bytes left", header, size, s, left)
			}
			left -= s.end - s.start
			specs = append(specs, fmt.Sprintf("%d-%d", s.start, s.end-1))
		}
		if len(specs) > maxRanges || got.plain && len(specs) > 1 {
			t.Fatalf("parseRange(%q, %d) = %d ranges, plain %v", header, size, len(specs), got.plain)
		}
		if len(specs) == 0 {
			return
		}
		again, err := parseRange("bytes="+strings.Join(specs, ","), size)
		if err != nil || !slices.Equal(again.spans, got.spans) || again.plain != (len(specs) == 1) {
			t.Errorf("parseRange(%q, %d) = %v, and written out %v, %v", header, size, got, again, err)
		}
	})
}
