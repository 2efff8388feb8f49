package drivers

import (
	"net/url"
	"strings"
)

// Authority is the host and port of u as clients ask for them, for those are
// what is signed: in lower case, and without the port of the scheme
// (https://www.rfc-editor.org/rfc/rfc3986#section-6.2.3).
func Authority(u *url.URL) string {
	host, port := strings.ToLower(u.Host), u.Port()
	if port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return strings.TrimSuffix(host, ":"+port)
	}
	return host
}
