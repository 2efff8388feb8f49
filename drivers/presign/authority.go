package presign

import (
	"net/url"
	"strings"
)

// Authority returns the host and port of u in the form in which clients send
// them, because that form is signed: in lower case, and without the default
// port of the scheme
// (https://www.rfc-editor.org/rfc/rfc3986#section-6.2.3).
func Authority(u *url.URL) string {
	host, port := strings.ToLower(u.Host), u.Port()
	if port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return strings.TrimSuffix(host, ":"+port)
	}
	return host
}
