// Package match matches what rules about requests test: names of repositories and
// tags against globs, and addresses of clients against networks. It also finds the
// address of a client behind proxies.
package match

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// Glob is a compiled glob over names of repositories, over tags, or over other text. "?" and
// "*" match within a segment of a name; "**" matches anything, including slashes.
type Glob struct {
	re *regexp.Regexp
}

// ParseGlob compiles a glob over names of repositories. It returns an error if the
// glob matches no valid name.
func ParseGlob(glob string) (Glob, error) {
	if strings.HasPrefix(glob, "/") || strings.HasSuffix(glob, "/") || strings.Contains(glob, "//") {
		return Glob{}, fmt.Errorf("%q has an empty segment, which no repository name has", glob)
	}
	return compile(glob, "repository name", func(c byte) bool {
		return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("._-/", c) >= 0
	})
}

// ParseTagGlob compiles a glob over tags. It returns an error if the glob matches no
// valid tag.
func ParseTagGlob(glob string) (Glob, error) {
	if glob == "" || glob[0] == '.' || glob[0] == '-' {
		return Glob{}, fmt.Errorf("%q matches no tag: the first character of a tag is a letter, a digit or _", glob)
	}
	return compile(glob, "tag", func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-", c) >= 0
	})
}

// ParseTextGlob compiles a glob over text of any form, such as a claim of a token. The
// glob itself is printable ASCII.
func ParseTextGlob(glob string) (Glob, error) {
	g, err := compile(glob, "text", func(c byte) bool { return ' ' <= c && c <= '~' })
	if err != nil {
		return Glob{}, fmt.Errorf("%q: want printable ASCII", glob)
	}
	return g, nil
}

// compile compiles a glob over names, which have only characters for which valid
// returns true.
func compile(glob, name string, valid func(c byte) bool) (Glob, error) {
	var b strings.Builder
	b.WriteString(`^`)
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; {
		case strings.HasPrefix(glob[i:], "**"):
			b.WriteString(`.*`)
			i++
		case c == '*':
			b.WriteString(`[^/]*`)
		case c == '?':
			b.WriteString(`[^/]`)
		case valid(c):
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		default:
			return Glob{}, fmt.Errorf("%q has a %q, which no %s has", glob, c, name)
		}
	}
	b.WriteString(`$`)
	re, err := regexp.Compile(b.String())
	return Glob{re}, err
}

// Match reports whether the glob matches all of name. The zero Glob matches
// nothing.
func (g Glob) Match(name string) bool { return g.re != nil && g.re.MatchString(name) }

// Networks is a list of networks.
type Networks []netip.Prefix

// ParseNetwork parses a network such as 10.0.0.0/8, or a single address.
func ParseNetwork(s string) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(s)
	prefix := netip.PrefixFrom(addr, addr.BitLen())
	if err != nil {
		prefix, err = netip.ParsePrefix(s)
	}
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is neither a network such as 10.0.0.0/8 nor an address", s)
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q must be written as IPv4", s)
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits set past its length (meant %s?)", s, prefix.Masked())
	}
	return prefix, nil
}

// Contains reports whether addr is in one of the networks. The zero Addr, which
// stands for an unknown address, is in none.
func (n Networks) Contains(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, prefix := range n {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
