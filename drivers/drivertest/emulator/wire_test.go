package emulator

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestWire injects faults in two ways, and removes them again.
func TestWire(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 10_000)) // fails if the client has left
	}))
	defer server.Close()
	w := NewWire(t, server.URL+"/path")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func() (int, error) {
		resp, err := client.Get(w.URL)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return len(data), err
	}
	wantAll := func(when string) {
		t.Helper()
		if n, err := get(); n != 10_000 || err != nil {
			t.Errorf("GET %s = %d bytes, %v, want 10000", when, n, err)
		}
	}
	wantAll("without faults")
	w.Poison(t, Toxic{"limit_data", "downstream", map[string]int64{"bytes": 1000}})
	if n, err := get(); n >= 1000 || err == nil {
		t.Errorf("GET with a limit of 1000 bytes = %d bytes, %v, want an error", n, err)
	}
	w.Heal(t)
	wantAll("after Heal")
	w.Cut(t)
	if n, err := get(); err == nil {
		t.Errorf("GET after Cut = %d bytes, want an error", n)
	}
	w.Heal(t)
	wantAll("after Cut and Heal")
}
