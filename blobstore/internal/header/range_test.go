package header

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rangeResult is what ParseRange returns.
type rangeResult struct {
	Ranges
	ok bool
}

func one(start, end int64) rangeResult { return rangeResult{Ranges{[]Span{{start, end}}, true}, true} }

// several returns the result of a header that is not plain.
func several(spans ...Span) rangeResult { return rangeResult{Ranges{spans, false}, true} }

var (
	ignored = rangeResult{Ranges{Plain: true}, true}
	all     = rangeResult{Ranges{}, true} // the whole blob, although the header is not plain
	bad     = rangeResult{}
)

const (
	max64 = "9223372036854775807"
	more  = "18446744073709551616"
)

var rangeTests = []struct {
	header string
	size   int64
	want   rangeResult
}{
	{"", 100, ignored},
	{"bytes=0-", 100, one(0, 100)},
	{"bytes=7-", 100, one(7, 100)},
	{"bytes=7-9", 100, one(7, 10)},
	{"bytes=7-7", 100, one(7, 8)},
	{"bytes=0-99", 100, one(0, 100)},
	{"bytes=0-98", 100, one(0, 99)},
	{"bytes=99-", 100, one(99, 100)},
	{"bytes=7-100", 100, one(7, 100)},
	{"bytes=007-009", 100, one(7, 10)},
	{"bytes=7-" + max64, 100, one(7, 100)},
	{"bytes=7-" + more, 100, one(7, 100)},

	// The last bytes.
	{"bytes=-1", 100, several(Span{99, 100})},
	{"bytes=-10", 100, several(Span{90, 100})},
	{"bytes=-100", 100, several(Span{0, 100})},
	{"bytes=-1000", 100, several(Span{0, 100})},
	{"bytes=-" + max64, 100, several(Span{0, 100})},
	{"bytes=-" + more, 100, several(Span{0, 100})},

	// Unusual forms.
	{"Bytes=0-1", 100, several(Span{0, 2})},
	{"bytes= 0-1", 100, several(Span{0, 2})},
	{"bytes=0-1\t", 100, several(Span{0, 2})},
	{"bytes=,0-1,", 100, several(Span{0, 2})},

	// Several ranges, in their order.
	{"bytes=0-0,7-", 100, several(Span{0, 1}, Span{7, 100})},
	{"bytes=7-9 , -5,0-1", 100, several(Span{7, 10}, Span{95, 100}, Span{0, 2})},
	{"bytes=7-9,8-10,9-11", 100, several(Span{7, 10}, Span{8, 11}, Span{9, 12})},
	{"bytes=0-1,100-200,2-3,-0", 100, several(Span{0, 2}, Span{2, 4})},
	{"bytes=0-1,100-", 100, several(Span{0, 2})},

	// Too many ranges or bytes.
	{"bytes=0-98,0-0,5-5", 100, all},
	{"bytes=0-,0-", 100, all},
	{"bytes=-100,0-0", 100, all},
	{"bytes=" + strings.Repeat("0-0,", 100), 100, several(slices.Repeat([]Span{{0, 1}}, 100)...)},
	{"bytes=" + strings.Repeat("0-0,", 101), 100, all},
	{"bytes=" + strings.Repeat("0-0,", MaxRanges), 1 << 20, several(slices.Repeat([]Span{{0, 1}}, MaxRanges)...)},
	{"bytes=" + strings.Repeat("0-0,", MaxRanges+1), 1 << 20, all},
	{"bytes=" + strings.Repeat("-0,", MaxRanges) + "0-0", 1 << 20, all},
	{"bytes=" + strings.Repeat("0-,", 30_000), 1 << 62, all},

	// Not in the blob.
	{"bytes=100-", 100, bad},
	{"bytes=100-200", 100, bad},
	{"bytes=" + more + "-", 100, bad},
	{"bytes=-0", 100, bad},
	{"bytes=-0,100-", 100, bad},

	// An empty blob has no ranges.
	{"bytes=0-", 0, ignored},
	{"bytes=-5", 0, all},
	{"bytes=5-9", 0, ignored},
	{"bytes=5-2", 0, bad},

	// Malformed.
	{"bytes=", 100, bad},
	{"bytes= , ", 100, bad},
	{"bytes=-", 100, bad},
	{"bytes=--1", 100, bad},
	{"bytes=-+1", 100, bad},
	{"bytes=-1-", 100, bad},
	{"bytes=1", 100, bad},
	{"bytes=+1-2", 100, bad},
	{"bytes=1-+2", 100, bad},
	{"bytes=1 -2", 100, bad},
	{"bytes=1- 2", 100, bad},
	{"bytes=1-2-3", 100, bad},
	{"bytes=a-b", 100, bad},
	{"bytes=0x1-2", 100, bad},
	{"bytes=9-7", 100, bad},
	{"bytes=200-100", 100, bad},
	{"bytes=0-1;2-3", 100, bad},
	{"bytes=0-1,9-7", 100, bad},
	{"bytes=" + strings.Repeat("0-0,", MaxRanges+1) + "x", 100, bad},

	// Another unit, or none.
	{"bits=0-1", 100, ignored},
	{"seconds=x", 100, ignored},
	{"bytes =0-1", 100, ignored},
	{"bytes", 100, ignored},
	{"=0-1", 100, ignored},
	{"0-1", 100, ignored},
}

func TestParseRange(t *testing.T) {
	for _, test := range rangeTests {
		got, ok := ParseRange(test.header, test.size)
		if ok != test.want.ok || got.Plain != test.want.Plain || !slices.Equal(got.Spans, test.want.Spans) {
			t.Errorf("ParseRange(%.60q, %d) = %v, %v, want %v, %v", test.header, test.size, got, ok, test.want.Ranges, test.want.ok)
		}
	}
}

// FuzzParseRange tests that parsed ranges stay within their limits, and that
// parsing them again after writing them out returns the same ranges.
func FuzzParseRange(f *testing.F) {
	for _, h := range []string{"", "bytes=0-1", "bytes=-5,7-", "bytes=5-2", "bytes=0-18446744073709551615", "bytes= ,0-0,, 3-9", "BYTES=--1"} {
		f.Add(h, int64(100))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		size = max(size, 0)
		got, ok := ParseRange(header, size)
		if !ok {
			if got.Spans != nil || got.Plain {
				t.Fatalf("ParseRange(%q, %d) = %v, false, want no ranges", header, size, got)
			}
			return
		}
		checkRanges(t, header, size, got)
		if len(got.Spans) == 0 {
			return
		}
		again, ok := ParseRange(format(got.Spans), size)
		if !ok || !slices.Equal(again.Spans, got.Spans) || again.Plain != (len(got.Spans) == 1) {
			t.Errorf("ParseRange(%q, %d) = %v, and after writing it out %v, %v", header, size, got, again, ok)
		}
	})
}

// checkRanges tests that parsed ranges stay within their limits.
func checkRanges(t *testing.T, header string, size int64, got Ranges) {
	t.Helper()
	left := size
	for _, s := range got.Spans {
		if s.Start < 0 || s.Len() <= 0 || s.End > size || s.Len() > left {
			t.Fatalf("ParseRange(%q, %d) has %v, with %d bytes left", header, size, s, left)
		}
		left -= s.Len()
	}
	if len(got.Spans) > MaxRanges || got.Plain && len(got.Spans) > 1 {
		t.Fatalf("ParseRange(%q, %d) = %d ranges, plain %v", header, size, len(got.Spans), got.Plain)
	}
}

// format returns a Range header that asks for the spans.
func format(spans []Span) string {
	var specs []string
	for _, s := range spans {
		specs = append(specs, fmt.Sprintf("%d-%d", s.Start, s.End-1))
	}
	return "bytes=" + strings.Join(specs, ",")
}
