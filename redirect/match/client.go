package match

import (
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the proxies in front of a service that are trusted to name their
// clients. At most one of the fields is set.
type Proxies struct {
	// Networks are the networks of the proxies.
	Networks Networks

	// Count is the number of proxies. Each of them appends the address of its
	// caller to X-Forwarded-For.
	Count int
}

// Client returns the address of the client that sent r. IPv4 in IPv6 is unmapped,
// and a zone is left out. The zero Proxies trusts no headers, and Client returns
// the address of the peer.
//
// With Networks, a peer that is not in one of them is the client, and its headers
// are ignored. Otherwise the client is the last address in X-Forwarded-For, or in
// Forwarded (RFC 7239), that is not in a trusted network, or the first address if
// all are. Entries that a client writes are left of the entries that proxies
// append. Client returns the zero Addr if that entry is not an address, or if
// both headers are present and disagree, because a proxy passes a header that it
// does not support on as the client wrote it.
//
// With Count, the client is the entry in X-Forwarded-For that the first of the
// proxies appended. If there are fewer entries than proxies, it is the leftmost,
// and without the header it is the peer. Client returns the zero Addr if that
// entry is not an address.
func (p Proxies) Client(r *http.Request) netip.Addr {
	if len(p.Networks) == 0 {
		return behind(r, p.Count)
	}
	peer := parseHop(r.RemoteAddr)
	if !p.Networks.Contains(peer) {
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
func (p Proxies) beyond(hops iter.Seq[netip.Addr]) (client netip.Addr, ok bool) {
	for hop := range hops {
		client, ok = hop, true
		if !p.Networks.Contains(hop) {
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

// behind returns the address of the client behind a number of proxies.
func behind(r *http.Request, proxies int) netip.Addr {
	hop := r.RemoteAddr
	rest := strings.Join(r.Header["X-Forwarded-For"], ",")
	for ; proxies > 0 && rest != ""; proxies-- {
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
