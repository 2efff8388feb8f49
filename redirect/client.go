package redirect

import (
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the proxies in front of the service that are trusted to name their
// clients.
type proxies struct {
	networks []netip.Prefix // of the proxies
	count    int            // of proxies, in the older form of the configuration
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

// client returns the address of the client that sent r. If the peer is not in a
// trusted network, it is the client, and its headers are ignored. Otherwise the
// client is the last address in X-Forwarded-For, or in Forwarded (RFC 7239),
// that is not in a trusted network, or the first address if all are. Entries
// that a client writes are left of the entries that proxies append.
//
// client returns the zero Addr if that entry is not an address, or if both
// headers are present and disagree, because a proxy passes a header that it does
// not support on as the client wrote it.
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

// forwardedFor returns the hops in lines of X-Forwarded-For from right to left,
// with the zero Addr for an entry that is not an address. Lines that are all
// blank have no hops.
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
// proxies, each of which appends the address of its caller to X-Forwarded-For.
// Entries that a client wrote are left of these, and are ignored. IPv4 in IPv6
// is unmapped, and a zone is left out.
//
// With no trusted proxies, or without the header, ClientAddr returns the address
// of the peer. If there are fewer addresses than proxies, it returns the
// leftmost. It returns the zero Addr if that entry is not an address.
func ClientAddr(r *http.Request, trustedProxies int) netip.Addr {
	hop := r.RemoteAddr
	rest := strings.Join(r.Header["X-Forwarded-For"], ",")
	for ; trustedProxies > 0 && rest != ""; trustedProxies-- {
		comma := strings.LastIndexByte(rest, ',')
		hop, rest = rest[comma+1:], rest[:max(comma, 0)]
	}
	return parseHop(hop)
}

// parseHop parses an address with or without a port, in the forms that proxies
// write: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1],
// [2001:db8::1]:80. It returns the zero Addr if s is not an address.
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
