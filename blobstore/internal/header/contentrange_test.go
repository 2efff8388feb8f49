package header

import (
	"fmt"
	"math"
	"testing"
)

func TestParseContentRange(t *testing.T) {
	for header, want := range map[string]Span{
		"0-0":                     {0, 1},
		"0-1023":                  {0, 1024},
		"1024-2047":               {1024, 2048},
		"007-008":                 {7, 9},
		" 0-1 ":                   {0, 2},
		"bytes 0-1/2":             {0, 2},
		"bytes 5-9/*":             {5, 10},
		"bytes 5-9":               {5, 10},
		"bytes   5-9/10":          {5, 10},
		"5-9/10":                  {5, 10},
		"5-9/*":                   {5, 10},
		"0-9223372036854775806":   {0, math.MaxInt64},
		"0-1/9223372036854775807": {0, 2},
	} {
		got, ok := ParseContentRange(header)
		if !ok || got != want {
			t.Errorf("ParseContentRange(%q) = %v, %v, want %v", header, got, ok, want)
		}
	}
	for _, header := range []string{
		"", " ", "-", "0", "0-", "-0", "1-0", "a-b", "0-b", "+0-1", "0-+1", "-1-1", "0--1", "0 - 1", "0-1-2", "0,1",
		"0x0-0x1", "1e3-1e4", "0_0-1", "0-9223372036854775807", "0-9223372036854775808", "18446744073709551616-0",
		"bytes", "bytes ", "bytes */2", "bytes=0-1", "Bytes 0-1/2", "items 0-1/2", "bytes 0-1/", "bytes 0-1/1", "bytes 0-1/x",
		"bytes 0-1/-2", "bytes 0-1/2/3", "bytes 0-1/9223372036854775808", "bytes bytes 0-1/2", "٠-١", "0-1\x00",
	} {
		if got, ok := ParseContentRange(header); ok {
			t.Errorf("ParseContentRange(%q) = %v, want it refused", header, got)
		}
	}
}

func TestUploadRange(t *testing.T) {
	for size, want := range map[int64]string{0: "0-0", 1: "0-0", 2: "0-1", 1 << 40: "0-1099511627775"} {
		if got := UploadRange(size); got != want {
			t.Errorf("UploadRange(%d) = %q, want %q", size, got, want)
		}
	}
}

// FuzzParseContentRange tests that a parsed range is not empty, and that it is
// the same range in both forms.
func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"0-0", "bytes 5-9/10", "bytes 0-9223372036854775806/*", "5-", "0-18446744073709551615"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		s, ok := ParseContentRange(header)
		if !ok {
			return
		}
		if s.Start < 0 || s.End <= s.Start {
			t.Fatalf("ParseContentRange(%q) = %v", header, s)
		}
		for _, form := range []string{"%d-%d", "bytes %d-%d/*"} {
			again := fmt.Sprintf(form, s.Start, s.End-1)
			if got, ok := ParseContentRange(again); !ok || got != s {
				t.Errorf("ParseContentRange(%q) = %v, %v, want %v, as for %q", again, got, ok, s, header)
			}
		}
	})
}
