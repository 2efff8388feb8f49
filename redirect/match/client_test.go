package match

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestClientBehindCount(t *testing.T) {
	for _, test := range []struct {
		remote    string
		forwarded []string
		proxies   int
		want      string // "" is the zero Addr
	}{
		{"192.0.2.1:1234", nil, 0, "192.0.2.1"},
		{"192.0.2.1:1234", nil, 2, "192.0.2.1"},
		{"192.0.2.1:1234", []string{""}, 1, "192.0.2.1"},
		{"192.0.2.1:1234", []string{"198.51.100.1"}, 0, "192.0.2.1"}, // not written by a trusted proxy
		{"192.0.2.1:1234", []string{"198.51.100.1"}, 1, "198.51.100.1"},
		{"192.0.2.1:1234", []string{"10.9.9.9, 198.51.100.1"}, 1, "198.51.100.1"}, // the client lied
		{"192.0.2.1:1234", []string{"10.9.9.9,198.51.100.1,203.0.113.1"}, 2, "198.51.100.1"},
		{"192.0.2.1:1234", []string{"10.9.9.9", "198.51.100.1 , 203.0.113.1"}, 2, "198.51.100.1"},
		{"192.0.2.1:1234", []string{"10.9.9.9", "198.51.100.1", "203.0.113.1"}, 2, "198.51.100.1"},
		{"192.0.2.1:1234", []string{"198.51.100.1"}, 3, "198.51.100.1"},
		{"192.0.2.1:1234", []string{"10.9.9.9, unknown"}, 1, ""}, // the client's own entry is not used instead
		{"192.0.2.1:1234", []string{"10.9.9.9, _hidden"}, 1, ""},
		{"192.0.2.1:1234", []string{"10.9.9.9, "}, 1, ""},
		{"[2001:db8::1]:1234", nil, 0, "2001:db8::1"},
		{"[::ffff:192.0.2.1]:1234", nil, 0, "192.0.2.1"},
		{"[fe80::1%eth0]:1234", nil, 0, "fe80::1"},
		{"@", nil, 0, ""}, // a Unix socket
		{"@", []string{"198.51.100.1:443"}, 1, "198.51.100.1"},
		{"@", []string{"2001:db8::2"}, 1, "2001:db8::2"},
		{"@", []string{"[2001:db8::2]"}, 1, "2001:db8::2"},
		{"@", []string{"[2001:db8::2]:443"}, 1, "2001:db8::2"},
		{"@", []string{"::ffff:198.51.100.1"}, 1, "198.51.100.1"},
	} {
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{}}
		for _, f := range test.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		want, _ := netip.ParseAddr(test.want)
		if got := (Proxies{Count: test.proxies}).Client(r); got != want {
			t.Errorf("Client(%q, %q) behind %d proxies = %v, want %v", test.remote, test.forwarded, test.proxies, got, want)
		}
	}
}

// FuzzClientBehindCount checks that no header of a client changes the address that its
// trusted proxies report.
func FuzzClientBehindCount(f *testing.F) {
	f.Add("", uint8(0))
	f.Add("198.51.100.1", uint8(1))
	f.Add("[::1]:80, fe80::1%eth0,,unknown", uint8(2))
	f.Fuzz(func(t *testing.T, claimed string, extra uint8) {
		if strings.ContainsAny(claimed, "\r\n") {
			t.Skip("not a header") // net/http refuses it
		}
		const client = "203.0.113.7"
		// The client is behind 1 to 4 proxies, each of which appends its caller
		// to the last line or as a line of its own.
		proxies := int(extra%4) + 1
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {claimed}}}
		hops := []string{client, "10.0.0.2", "10.0.0.3", "10.0.0.4"}[:proxies]
		for i, hop := range hops {
			lines := r.Header["X-Forwarded-For"]
			if extra>>(2+i)&1 == 0 {
				lines[len(lines)-1] += ", " + hop
			} else {
				r.Header.Add("X-Forwarded-For", hop)
			}
		}
		if got := (Proxies{Count: proxies}).Client(r); got.String() != client {
			t.Errorf("Client(%q) behind %d proxies = %v, want %s", r.Header, proxies, got, client)
		}
		Proxies{Count: 1000}.Client(r) // does not panic
	})
}
