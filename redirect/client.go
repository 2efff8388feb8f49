package redirect

import (
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the proxies in front of the service that are trusted to name the
// client they were called by.
type proxies struct {
	networks []netip.Prefix // that they are in
	count    int            // how many there are, if it is not zero
}

func newProxies(bad problems, c Config) proxies {
	p := proxies{count: c.TrustedProxies}
	at := problems{key: "trusted_proxies", list: bad.list}
	for _, s := range c.TrustedNetworks {
		network, err := parseNetwork(s)
		at.add(err)
		if err == nil && network.Bits() == 0 {
			at.addf("%q has every address in it, so that any client could claim to be another", s)
		}
		p.networks = append(p.networks, network)
	}
	switch {
	case p.count < 0:
		bad.at("trusted_proxies").addf("%d is negative", p.count)
	case p.count > 0 && len(p.networks) > 0:
		at.addf("redirect.trusted_proxies, its older form, is set as well: set one of them")
	}
	return p
}

// client returns the address of the client that made a request. A request whose
// peer is not in a trusted network comes from that peer, whatever its headers
// say. Of others the client is the last address in X-Forwarded-For, or in
// Forwarded (RFC 7239), that is not in a trusted network, or the first address
// if all are. What clients write there lies to the left of what proxies append.
//
// It is the zero Addr if that entry is not an address, or if there are both
// headers and they disagree: a proxy passes on the header that it doesn't know
// as the client wrote it.
func (p proxies) client(r *http.Request) netip.Addr {
	if p.count > 0 {
		return ClientAddr(r, p.count)
	}
	peer := parseHop(r.RemoteAddr)
	if !contains(p.networks, peer) {
		return peer
	}
	byXFF, hasXFF := p.beyond(forwardedFor(r.Header["X-Forwarded-For"]))
	byForwarded, hasForwarded := p.beyond(forwarded(r.Header["Forwarded"]))
	switch {
	case hasXFF && hasForwarded && byXFF != byForwarded:
		return netip.Addr{}
	case hasXFF:
		return byXFF
	case hasForwarded:
		return byForwarded
	}
	return peer
}

// beyond returns the first hop that is not a trusted proxy, or the last hop. It
// reports whether there are hops.
func (p proxies) beyond(hops iter.Seq[netip.Addr]) (client netip.Addr, ok bool) {
	for hop := range hops {
		client, ok = hop, true
		if !contains(p.networks, hop) {
			break
		}
	}
	return client, ok
}

// forwardedFor yields the hops in lines of X-Forwarded-For from right to left,
// the zero Addr for an entry that is not an address. Blank lines alone have no
// hops.
func forwardedFor(lines []string) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		if blank(lines) {
			return
		}
		for _, line := range slices.Backward(lines) {
			for more := true; more; {
				hop := line
				if i := strings.LastIndexByte(line, ','); i >= 0 {
					line, hop = line[:i], line[i+1:]
				} else {
					more = false
				}
				if !yield(parseHop(hop)) {
					return
				}
			}
		}
	}
}

func blank(lines []string) bool {
	return !slices.ContainsFunc(lines, func(line string) bool { return strings.Trim(line, " \t") != "" })
}

// ClientAddr returns the address of the client behind a number of trusted
// proxies, each of which appends to X-Forwarded-For the address that it was
// called from. What a client wrote there itself lies to the left of that, and
// is not looked at. IPv4 in IPv6 is unmapped, and a zone left out.
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
