package redirect

import "net/url"

// Redacted returns a form of a URL that can be logged: scheme, host and path.
// REDACTED replaces the user, the query and the fragment, because they can contain
// credentials. Redacted returns REDACTED if rawURL is malformed or has no host.
func Redacted(rawURL string) string {
	const redacted = "REDACTED"
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return redacted
	}
	short := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if u.User != nil {
		short.User = url.User(redacted)
	}
	if u.RawQuery != "" {
		short.RawQuery = redacted
	}
	if u.Fragment != "" {
		short.Fragment = redacted
	}
	return short.String()
}
