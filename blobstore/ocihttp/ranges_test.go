package ocihttp

import (
	"fmt"
	"math"
	"testing"
)

func TestParseContentRange(t *testing.T) {
	for header, want := range map[string]span{
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
		got, err := parseContentRange(header)
		if err != nil || got != want {
			t.Errorf("parseContentRange(%q) = %v, %v, want %v", header, got, err, want)
		}
	}
	for _, header := range []string{
		"", " ", "-", "0", "0-", "-0", "1-0", "a-b", "0-b", "+0-1", "0-+1", "-1-1", "0--1", "0 - 1", "0-1-2", "0,1",
		"0x0-0x1", "1e3-1e4", "0_0-1", "0-9223372036854775807", "0-9223372036854775808", "18446744073709551616-0",
		"bytes", "bytes ", "bytes */2", "bytes=0-1", "Bytes 0-1/2", "items 0-1/2", "bytes 0-1/", "bytes 0-1/1", "bytes 0-1/x",
		"bytes 0-1/-2", "bytes 0-1/2/3", "bytes 0-1/9223372036854775808", "bytes bytes 0-1/2", "٠-١", "0-1\x00",
	} {
		if got, err := parseContentRange(header); err == nil || responseTo(err).status != 400 {
			t.Errorf("parseContentRange(%q) = %v, %v, want an error that is answered 400", header, got, err)
		}
	}
}

func TestUploadRange(t *testing.T) {
	for size, want := range map[int64]string{0: "0-0", 1: "0-0", 2: "0-1", 1 << 40: "0-1099511627775"} {
		if got := uploadRange(size); got != want {
			t.Errorf("uploadRange(%d) = %q, want %q", size, got, want)
		}
	}
}

// FuzzParseContentRange wants that what is taken is a range that is not empty,
// and is the same range in either form.
func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"0-0", "bytes 5-9/10", "bytes 0-9223372036854775806/*", "5-", "0-18446744073709551615"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		s, err := parseContentRange(header)
		if err != nil {
			return
		}
		if s.start < 0 || s.end <= s.start {
			t.Fatalf("parseContentRange(%q) = %v", header, s)
		}
		for _, form := range []string{"%d-%d", "bytes %d-%d/*"} {
			again := fmt.Sprintf(form, s.start, s.end-1)
			if got, err := parseContentRange(again); err != nil || got != s {
				t.Errorf("parseContentRange(%q) = %v, %v, want %v as of %q", again, got, err, s, header)
			}
		}
	})
}
