package config

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Units of sizes, in bytes.
const (
	kib int64 = 1 << (10 * (iota + 1))
	mib
	gib
	tib
	pib
)

// units are the units of sizes, in descending order. A number without a unit is in
// bytes.
var units = [...]struct {
	name  string
	bytes int64
}{{"PiB", pib}, {"TiB", tib}, {"GiB", gib}, {"MiB", mib}, {"KiB", kib}, {"B", 1}, {"", 1}}

// ParseSize returns the number of bytes of a size: digits and a unit from B to PiB,
// or no unit. It reports whether s is a size that fits into an int64.
func ParseSize(s string) (n int64, ok bool) {
	for _, u := range units {
		if digits, found := strings.CutSuffix(s, u.name); found {
			n, err := strconv.ParseUint(digits, 10, 63)
			return int64(n) * u.bytes, err == nil && int64(n) <= math.MaxInt64/u.bytes
		}
	}
	return 0, false
}

// formatSize returns a size in the largest unit of which it is a multiple.
func formatSize(n int64) string {
	for _, u := range units {
		if n != 0 && n%u.bytes == 0 && u.bytes > 1 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatDuration returns a duration without trailing zeros: 20m, not 20m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if d != 0 && d%time.Minute == 0 {
		s = strings.TrimSuffix(s, "0s")
	}
	if d != 0 && d%time.Hour == 0 {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
