package match

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// forwarded returns the hops in lines of Forwarded from right to left, with the
// zero Addr for an entry that names no address. A malformed line is one such
// entry. Lines that are all blank have no hops.
//
// https://www.rfc-editor.org/rfc/rfc7239#section-4
func forwarded(lines []string) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		if blank(lines) {
			return
		}
		for _, line := range slices.Backward(lines) {
			for _, hop := range slices.Backward(parseForwarded(line)) {
				if !yield(hop) {
					return
				}
			}
		}
	}
}

// parseForwarded returns the hops of a line from left to right.
func parseForwarded(line string) (hops []netip.Addr) {
	for {
		hop, rest, ok := parseElement(line)
		if !ok {
			return []netip.Addr{{}}
		}
		hops = append(hops, hop)
		if rest == "" {
			return hops
		}
		line = rest[1:] // after the comma
	}
}

// parseElement parses the parameters of one proxy, up to a comma or the end. It
// returns the hop and the rest of the line, and reports whether the element is
// well formed. Only a separator may follow a value, so that a quotation mark
// that a client opened cannot swallow what a proxy appended.
func parseElement(s string) (hop netip.Addr, rest string, ok bool) {
	seen := false
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == ',' {
			return hop, s, true
		}
		if s[0] == ';' {
			s = s[1:]
			continue
		}
		name, after, found := strings.Cut(s, "=")
		if !found || name == "" || strings.ContainsAny(name, " \t\",;") {
			return hop, "", false
		}
		var value string
		if value, s, ok = parseValue(after); !ok {
			return hop, "", false
		}
		s = strings.TrimLeft(s, " \t")
		if s != "" && s[0] != ',' && s[0] != ';' {
			return hop, "", false
		}
		if strings.EqualFold(name, "for") {
			if seen {
				return hop, "", false
			}
			seen, hop = true, parseHop(value)
		}
	}
}

// parseValue parses a token or a quoted string. A token ends only at a separator,
// because many proxies do not quote IPv6 addresses and ports.
func parseValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, " \t,;\"")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
