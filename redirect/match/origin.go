package match

import (
	"net/http"
	"strings"
)

// Origin returns the scheme and host at which the client of a request reached the first
// server, such as https://registry.example.com. Behind a trusted proxy that is what
// X-Forwarded-Proto and X-Forwarded-Host contain. It is empty if the host is malformed.
func (p Proxies) Origin(r *http.Request) string {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if p.Count > 0 || p.Networks.Contains(parseHop(r.RemoteAddr)) {
		if s := strings.ToLower(firstOf(r.Header.Get("X-Forwarded-Proto"))); s == "http" || s == "https" {
			scheme = s
		}
		if s := firstOf(r.Header.Get("X-Forwarded-Host")); s != "" {
			host = s
		}
	}
	if host == "" || strings.Trim(host, hostBytes) != "" {
		return ""
	}
	return scheme + "://" + host
}

// hostBytes are the bytes of host names, addresses and ports.
const hostBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]"

// firstOf returns the first item of a list.
func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.Trim(first, " \t")
}
