package drivers

import (
	"fmt"
	"strings"
)

// PartsPrefix begins the keys that drivers keep for themselves.
const PartsPrefix = "parts/"

// BulkPrefix begins the keys of blob bytes, few and large, as opposed to the
// many small records. Where a store has storage classes, the configured one is
// for these.
const BulkPrefix = "data/"

// CheckKey says what is wrong with a key, or nil. Keys are what every store
// and file system takes: 1 to 700 bytes, segments of 1 to 255 bytes parted by
// "/", none of them "." or "..", of the characters a-z A-Z 0-9 and ! + - . _ :
// and no key under "parts/". The callers of a Bucket also never make one key
// the directory of another ("a" and "a/b"), which some stores cannot hold.
func CheckKey(key string) error {
	if key == "" || len(key) > 700 {
		return fmt.Errorf("key %.40q: want 1 to 700 bytes, got %d", key, len(key))
	}
	if strings.HasPrefix(key, PartsPrefix) {
		return fmt.Errorf("key %q: %s is the driver's own", key, PartsPrefix)
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case segment == "" || segment == "." || segment == "..":
			return fmt.Errorf("key %q: segment %q", key, segment)
		case len(segment) > 255:
			return fmt.Errorf("key %.40q: a segment of %d bytes, want at most 255", key, len(segment))
		}
	}
	for i := range len(key) {
		if c := key[i]; !allowed(c) && c != '/' {
			return fmt.Errorf("key %q: character %q", key, c)
		}
	}
	return nil
}

func allowed(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!+-._:", c) >= 0
}
