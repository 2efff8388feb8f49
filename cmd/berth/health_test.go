package main

import "testing"

func TestLocalAddress(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:5000":   "127.0.0.1:5000",
		"0.0.0.0:5000":     "127.0.0.1:5000",
		":5000":            "127.0.0.1:5000",
		"[::]:5000":        "[::1]:5000",
		"10.1.2.3:80":      "10.1.2.3:80",
		"registry.lan:443": "registry.lan:443",
	} {
		if got := localAddress(address); got != want {
			t.Errorf("localAddress(%q) = %q, want %q", address, got, want)
		}
	}
}
