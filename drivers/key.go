package drivers

import (
	"fmt"
	"strings"
)

// PartsPrefix is the prefix of keys that are reserved for drivers.
const PartsPrefix = "parts/"

// BulkPrefix is the prefix of blob data: few large objects, unlike the many
// small records. A configured storage class applies to these keys only.
const BulkPrefix = "data/"

// CheckKey returns an error if key is not valid. Valid keys work on every store
// and file system. A valid key has 1 to 700 bytes and is not under "parts/". Its
// segments, separated by "/", have 1 to 255 bytes and are not "." or "..". Their
// characters are a-z, A-Z, 0-9 and any of !+-._: (including the colon). Callers of
// a Bucket also never use a key that is the directory of another ("a" and "a/b"),
// because some stores cannot hold both.
func CheckKey(key string) error {
	if key == "" || len(key) > 700 {
		return fmt.Errorf("key %.40q: %d bytes, want 1 to 700", key, len(key))
	}
	if strings.HasPrefix(key, PartsPrefix) {
		return fmt.Errorf("key %q: keys under %s are reserved for drivers", key, PartsPrefix)
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case segment == "" || segment == "." || segment == "..":
			return fmt.Errorf("key %q: invalid segment %q", key, segment)
		case len(segment) > 255:
			return fmt.Errorf("key %.40q: a segment of %d bytes, want at most 255", key, len(segment))
		}
	}
	for i := range len(key) {
		if c := key[i]; !allowed(c) && c != '/' {
			return fmt.Errorf("key %q: invalid character %q", key, c)
		}
	}
	return nil
}

func allowed(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!+-._:", c) >= 0
}
