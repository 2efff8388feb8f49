package match

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// behindNetworks returns proxies in a few networks.
func behindNetworks(t testing.TB) Proxies {
	t.Helper()
	var p Proxies
	for _, s := range []string{"10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48", "fe80::/10"} {
		network, err := ParseNetwork(s)
		if err != nil {
			t.Fatal(err)
		}
		p.Networks = append(p.Networks, network)
	}
	return p
}

func TestClientBehindNetworks(t *testing.T) {
	p := behindNetworks(t)
	type lines = []string
	for _, test := range []struct {
		name, remote   string
		xff, forwarded lines
		want           string // "" is the zero Addr
	}{
		{"no header", "10.0.0.1:1", nil, nil, "10.0.0.1"},
		{"blank headers", "10.0.0.1:1", lines{" "}, lines{"", "\t"}, "10.0.0.1"},
		{"one proxy", "10.0.0.1:1", lines{"198.51.100.1"}, nil, "198.51.100.1"},
		{"two proxies", "10.0.0.1:1", lines{"198.51.100.1, 10.0.0.2"}, nil, "198.51.100.1"},
		{"a single address is trusted", "192.0.2.7:1", lines{"198.51.100.1"}, nil, "198.51.100.1"},
		{"its neighbour is not trusted", "192.0.2.8:1", lines{"198.51.100.1"}, nil, "192.0.2.8"},
		{"the peer is no proxy", "203.0.113.1:1", lines{"10.0.0.1"}, lines{"for=10.0.0.1"}, "203.0.113.1"},
		{"the client lies", "10.0.0.1:1", lines{"10.9.9.9, 198.51.100.1"}, nil, "198.51.100.1"},
		{"the client lies in a line of its own", "10.0.0.1:1", lines{"10.9.9.9", "198.51.100.1", "10.0.0.2"}, nil, "198.51.100.1"},
		{"the client claims a proxy", "10.0.0.1:1", lines{"203.0.113.9, 198.51.100.1, 10.0.0.2"}, nil, "198.51.100.1"},
		{"the client is in the network", "10.0.0.1:1", lines{"10.1.1.1, 10.0.0.2"}, nil, "10.1.1.1"},
		{"ports", "10.0.0.1:1", lines{"198.51.100.1:4711, 10.0.0.2:80"}, nil, "198.51.100.1"},
		{"IPv6", "[2001:db8:1::1]:1", lines{"2001:db8:2::1, 2001:db8:1::2"}, nil, "2001:db8:2::1"},
		{"IPv6 in brackets and with ports", "[2001:db8:1::1]:1", lines{"[2001:db8:2::1]:4711, [2001:db8:1::2]"}, nil, "2001:db8:2::1"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1", lines{"::ffff:198.51.100.1, ::ffff:10.0.0.2"}, nil, "198.51.100.1"},
		{"zones", "[fe80::1%eth0]:1", lines{"2001:db8:2::1, fe80::2%eth1"}, nil, "2001:db8:2::1"},
		{"unknown", "10.0.0.1:1", lines{"198.51.100.1, unknown"}, nil, ""},
		{"unknown beyond the client", "10.0.0.1:1", lines{"unknown, 198.51.100.1"}, nil, "198.51.100.1"},
		{"garbage", "10.0.0.1:1", lines{"198.51.100.1, 198.51.100.300"}, nil, ""},
		{"empty entry", "10.0.0.1:1", lines{"198.51.100.1,, 10.0.0.2"}, nil, ""},
		{"empty last entry", "10.0.0.1:1", lines{"198.51.100.1,"}, nil, ""},
		{"empty last line", "10.0.0.1:1", lines{"198.51.100.1", ""}, nil, ""},
		{"no peer", "@", lines{"198.51.100.1"}, nil, ""},

		{"Forwarded", "10.0.0.1:1", nil, lines{"for=198.51.100.1"}, "198.51.100.1"},
		{"Forwarded with more", "10.0.0.1:1", nil, lines{"by=10.0.0.1; FOR=198.51.100.1;proto=https ;host=\"a,b;c\", for=10.0.0.2"}, "198.51.100.1"},
		{"Forwarded with IPv6", "10.0.0.1:1", nil, lines{`for="[2001:db8:2::1]:4711", For="[2001:db8:1::2]"`}, "2001:db8:2::1"},
		{"Forwarded with IPv6 as many write it", "10.0.0.1:1", nil, lines{`for=[2001:db8:2::1]:4711, for=2001:db8:1::2`}, "2001:db8:2::1"},
		{"Forwarded with escapes", "10.0.0.1:1", nil, lines{`for="198.51.10\0.1"`}, "198.51.100.1"},
		{"Forwarded in lines", "10.0.0.1:1", nil, lines{"for=10.9.9.9", "for=198.51.100.1", "for=10.0.0.2"}, "198.51.100.1"},
		{"Forwarded by a hidden proxy", "10.0.0.1:1", nil, lines{"for=198.51.100.1, for=_hidden"}, ""},
		{"Forwarded without for", "10.0.0.1:1", nil, lines{"for=198.51.100.1, proto=https"}, ""},
		{"Forwarded with an empty entry", "10.0.0.1:1", nil, lines{"for=198.51.100.1, , for=10.0.0.2"}, ""},
		{"Forwarded twice in one entry", "10.0.0.1:1", nil, lines{"for=198.51.100.1;for=203.0.113.1"}, ""},
		{"Forwarded without a name", "10.0.0.1:1", nil, lines{"=198.51.100.1"}, ""},
		{"Forwarded with spaces", "10.0.0.1:1", nil, lines{"for = 198.51.100.1"}, ""},
		{"Forwarded with two values", "10.0.0.1:1", nil, lines{`for=198.51.100.1"x"`}, ""},
		{"Forwarded with half an escape", "10.0.0.1:1", nil, lines{`for="198.51.100.1\`}, ""},
		{"a quotation mark of the client", "10.0.0.1:1", nil, lines{`for=10.9.9.9;x=", for=198.51.100.1`}, ""},
		{"a quotation mark of the client, and one of the proxy", "10.0.0.1:1", nil, lines{`for=10.9.9.9;x=", for="198.51.100.1"`}, ""},
		{"a quotation mark in another line", "10.0.0.1:1", nil, lines{`for=10.9.9.9;x="`, `for="198.51.100.1"`}, "198.51.100.1"},

		{"both headers", "10.0.0.1:1", lines{"198.51.100.1"}, lines{"for=198.51.100.1"}, "198.51.100.1"},
		{"both headers, one of them the client's", "10.0.0.1:1", lines{"198.51.100.1"}, lines{"for=10.9.9.9"}, ""},
	} {
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{"X-Forwarded-For": test.xff, "Forwarded": test.forwarded}}
		want, _ := netip.ParseAddr(test.want)
		if got := p.Client(r); got != want {
			t.Errorf("%s: Client(%q, %q, %q) = %v, want %v", test.name, test.remote, test.xff, test.forwarded, got, want)
		}
	}
}

// FuzzClientBehindNetworks checks that no client can claim another address.
func FuzzClientBehindNetworks(f *testing.F) {
	f.Add("", false, uint8(0))
	f.Add("10.9.9.9", false, uint8(1))
	f.Add(`for="[::1]:80`, true, uint8(2))
	f.Add(`for=10.9.9.9;x="\`, true, uint8(5))
	p := behindNetworks(f)
	f.Fuzz(func(t *testing.T, claimed string, rfc7239 bool, extra uint8) {
		if strings.ContainsAny(claimed, "\r\n") {
			t.Skip("not a header") // net/http refuses it
		}
		const client = "203.0.113.7"
		name, write := "X-Forwarded-For", func(hop string) string { return hop }
		if rfc7239 {
			name, write = "Forwarded", func(hop string) string { return `proto=https;for="` + hop + `"` }
		}
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{name: {claimed}}}
		ownLine := false
		for i, hop := range []string{client, "10.0.0.2", "10.0.0.3", "10.0.0.4"}[:extra%4+1] {
			lines := r.Header[name]
			if extra>>(2+i)&1 == 0 {
				lines[len(lines)-1] += ", " + write(hop)
			} else {
				r.Header.Add(name, write(hop))
				ownLine = ownLine || i == 0
			}
		}
		got := p.Client(r)
		// A line of Forwarded that the client broke names no client.
		if spoiled := rfc7239 && !ownLine && !got.IsValid(); !spoiled && got.String() != client {
			t.Errorf("Client(%q) = %v, want %s", r.Header, got, client)
		}
	})
}
