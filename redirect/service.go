package redirect

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// service is this service as its clients see it. Both are empty if unknown.
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

// checkURL says what is wrong with sending a client of this service to a URL.
//
// Clients forward the Authorization header that was meant for this service to
// its own host, on any port, and to subdomains of it; net/http does, and with
// it most registry clients. A store takes that for its own authentication and
// refuses the request, and a CDN must not see it.
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

// parseURL parses an absolute http or https URL. Its error shows what it was
// given only if that can hold no secret.
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

// hostname is the host of a URL in the one form in which hosts are compared.
// That takes ASCII: clients write others in punycode before they compare.
func hostname(u *url.URL) (string, error) {
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "", fmt.Errorf("host %q: write it in punycode (xn--…)", u.Host)
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), nil
}
