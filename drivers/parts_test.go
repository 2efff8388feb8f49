package drivers_test

import (
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
)

func TestCheckParts(t *testing.T) {
	limits := drivers.Limits{MinPart: 3, MaxParts: 4}
	part := func(number int, data string) drivers.Part {
		return drivers.Part{Number: number, Size: int64(len(data)), CRC32C: drivers.UpdateCRC32C(0, []byte(data))}
	}
	for name, test := range map[string]struct {
		parts []drivers.Part
		whole string
		want  string // in the error, or empty if there is none
	}{
		"one":                 {[]drivers.Part{part(1, "abcd")}, "abcd", ""},
		"one small":           {[]drivers.Part{part(1, "a")}, "a", ""},
		"one, of any number":  {[]drivers.Part{part(4, "abcd")}, "abcd", ""},
		"as many as allowed":  {[]drivers.Part{part(1, "abc"), part(2, "defg"), part(3, "hij"), part(4, "k")}, "abcdefghijk", ""},
		"a gap":               {[]drivers.Part{part(1, "abc"), part(3, "d")}, "abcd", ""},
		"none":                {nil, "", "0 parts, want 1 to 4"},
		"too many":            {make([]drivers.Part, 5), "", "5 parts, want 1 to 4"},
		"number 0":            {[]drivers.Part{part(0, "abc")}, "abc", "part number 0, want 1 to 4"},
		"number 5":            {[]drivers.Part{part(5, "abc")}, "abc", "part number 5, want 1 to 4"},
		"descending numbers":  {[]drivers.Part{part(2, "abc"), part(1, "d")}, "abcd", "part 1 comes after part 2"},
		"one number twice":    {[]drivers.Part{part(2, "abc"), part(2, "d")}, "abcd", "part 2 comes after part 2"},
		"a small first part":  {[]drivers.Part{part(1, "ab"), part(2, "cdef")}, "abcdef", "part 1 has 2 bytes, want at least 3"},
		"a small middle part": {[]drivers.Part{part(1, "abc"), part(2, "d"), part(3, "efg")}, "abcdefg", "part 2 has 1 bytes, want at least 3"},
		"another order":       {[]drivers.Part{part(1, "def"), part(2, "abc")}, "abcdef", "the parts have CRC-32C"},
		"a byte less":         {[]drivers.Part{part(1, "abc")}, "abcd", "the parts have CRC-32C"},
	} {
		size, err := drivers.CheckParts(test.parts, drivers.UpdateCRC32C(0, []byte(test.whole)), limits)
		switch {
		case test.want == "" && (err != nil || size != int64(len(test.whole))):
			t.Errorf("%s: CheckParts = %d, %v, want %d", name, size, err, len(test.whole))
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: CheckParts = %d, %v, want an error with %q", name, size, err, test.want)
		}
	}
}
