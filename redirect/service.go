package redirect

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// service is the address of this service for its clients. Both fields are empty
// if it is unknown.
type service struct {
	scheme, host string
}

func parseService(publicURL string) (service, error) {
	if publicURL == "" {
		return service{}, nil
	}
	u, err := parseURL(publicURL)
	if err != nil {
		return service{}, err
	}
	host, err := hostname(u)
	return service{scheme: u.Scheme, host: host}, err
}

// checkURL returns an error if clients of this service must not be redirected to
// rawURL.
//
// After a redirect, net/http and most registry clients still send the
// Authorization header that was meant for this service to the same host, on any
// port, and to its subdomains. A store interprets the header as authentication
// to the store and refuses the request, and a CDN must not see it.
func (s service) checkURL(rawURL string) error {
	u, err := parseURL(rawURL)
	if err != nil {
		return err
	}
	if s.host == "" {
		return nil
	}
	host, err := hostname(u)
	switch {
	case err != nil:
		return err
	case host == s.host:
		return fmt.Errorf("host %s is the service's own: clients would send their credentials along (use another host)", host)
	case strings.HasSuffix(host, "."+s.host):
		return fmt.Errorf("host %s is a subdomain of the service's %s: clients would send their credentials along "+
			"(use a host that is not below it)", host, s.host)
	case s.scheme == "https" && u.Scheme == "http":
		return fmt.Errorf("%s is plain http, and the service is https", Redacted(rawURL))
	}
	return nil
}

// parseURL parses an absolute http or https URL. Its error contains rawURL only if
// rawURL cannot hold a secret.
func parseURL(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		shown := Redacted(rawURL)
		if !strings.ContainsAny(rawURL, "?#@") {
			shown = strconv.Quote(rawURL)
		}
		return nil, fmt.Errorf("%s is not an absolute http or https URL", shown)
	}
	return u, nil
}

// hostname returns the host of a URL in the form in which checkURL compares
// hosts. It refuses a host that is not ASCII, because clients convert it to
// punycode before they compare.
func hostname(u *url.URL) (string, error) {
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "", fmt.Errorf("host %q: write it in punycode (xn--…)", u.Host)
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), nil
}
