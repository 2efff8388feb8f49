package redirect

import "net/url"

// Redacted is what may be logged of a URL: scheme, host and path. For whatever
// could make it work for a reader of the log, user, query and fragment, stands
// REDACTED, and for all of it if it is not a URL.
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
