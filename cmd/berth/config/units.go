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

// units of sizes, the largest first. A number alone is bytes.
var units = [...]struct {
	name  string
	bytes int64
}{{"PiB", pib}, {"TiB", tib}, {"GiB", gib}, {"MiB", mib}, {"KiB", kib}, {"B", 1}, {"", 1}}

// ParseSize reads a size: digits, and a unit from KiB to PiB or none.
func ParseSize(s string) (n int64, ok bool) {
	for _, u := range units {
		if digits, found := strings.CutSuffix(s, u.name); found {
			n, err := strconv.ParseUint(digits, 10, 63)
			return int64(n) * u.bytes, err == nil && int64(n) <= math.MaxInt64/u.bytes
		}
	}
	return 0, false
}

// formatSize writes a size in the largest unit that it is a multiple of.
func formatSize(n int64) string {
	for _, u := range units {
		if n != 0 && n%u.bytes == 0 && u.bytes > 1 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatDuration writes 20m where time.Duration writes 20m0s.
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
