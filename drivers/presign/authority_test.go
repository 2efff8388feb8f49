package presign

import (
	"net/url"
	"testing"
)

// TestAuthority converts hosts with and without ports of their schemes.
func TestAuthority(t *testing.T) {
	for raw, want := range map[string]string{
		"https://CDN.Example.com/a":     "cdn.example.com",
		"https://cdn.example.com:443/a": "cdn.example.com",
		"https://cdn.example.com:80/a":  "cdn.example.com:80",
		"http://cdn.example.com:80":     "cdn.example.com",
		"http://cdn.example.com:443":    "cdn.example.com:443",
		"https://cdn.example.com:/a":    "cdn.example.com",
		"https://cdn.example.com:8443":  "cdn.example.com:8443",
		"https://[2001:DB8::1]:443":     "[2001:db8::1]",
		"http://[2001:db8::443]":        "[2001:db8::443]",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := Authority(u); got != want {
			t.Errorf("Authority(%q) = %q, want %q", raw, got, want)
		}
	}
}
