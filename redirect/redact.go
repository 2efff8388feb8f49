package redirect

import "net/url"

// Redacted is what may be logged of a URL: scheme, host and path. Whatever
// could make it work for a reader of the log, user and query, is left out, and
// all of it if it is not a URL.
func Redacted(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return "REDACTED"
	}
	short := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if u.RawQuery != "" {
		short.RawQuery = "REDACTED"
	}
	return short.String()
}
