package drivers

import (
	"strings"
	"testing"
)

// TestCheckKey checks keys on both sides of each rule.
func TestCheckKey(t *testing.T) {
	good := []string{"a", "blobs/sha256/ab/abcd/record", "blobs/sha256/ab/cd/links/library!ubuntu", "meta/token-key",
		strings.Repeat("a", 255), strings.Repeat("a/", 349) + "aa", "partsx/a", "x/parts/a"}
	bad := []string{"", "/a", "a/", "a//b", ".", "a/./b", "a/..", "a b", "a\\b", "a\x00", "é", "parts/a", "a%b",
		strings.Repeat("a", 256), strings.Repeat("a/", 350) + "a"}
	for _, key := range good {
		if err := CheckKey(key); err != nil {
			t.Errorf("CheckKey(%q) = %v, want nil", key, err)
		}
	}
	for _, key := range bad {
		if CheckKey(key) == nil {
			t.Errorf("CheckKey(%q) = nil, want an error", key)
		}
	}
}
