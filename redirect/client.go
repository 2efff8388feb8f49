package redirect

import (
	"net/http"
	"net/netip"
	"strings"
)

// ClientAddr is the address of the client behind a number of trusted proxies,
// each of which appends to X-Forwarded-For the address that it was called from.
// What a client wrote there itself lies to the left of that, and is not looked
// at. IPv4 in IPv6 is unmapped, and a zone left out.
//
// With no trusted proxies, or without the header, it is the address that the
// request came from. If there are fewer addresses than proxies, it is the
// leftmost. It is the zero Addr if what stands there is not an address.
func ClientAddr(r *http.Request, trustedProxies int) netip.Addr {
	hop := r.RemoteAddr
	rest := strings.Join(r.Header["X-Forwarded-For"], ",")
	for ; trustedProxies > 0 && rest != ""; trustedProxies-- {
		comma := strings.LastIndexByte(rest, ',')
		hop, rest = rest[comma+1:], rest[:max(comma, 0)]
	}
	return parseHop(hop)
}

// parseHop reads an address with or without a port, as proxies write it:
// 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1], [2001:db8::1]:80.
func parseHop(s string) netip.Addr {
	s = strings.Trim(s, " \t")
	addr, err := netip.ParseAddr(s)
	if err != nil {
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(s)
		addr = withPort.Addr()
	}
	if inner, ok := strings.CutPrefix(s, "["); ok && err != nil {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			addr, err = netip.ParseAddr(inner)
		}
	}
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}
