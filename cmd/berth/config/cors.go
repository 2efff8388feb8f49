package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/berthhq/berth/cmd/berth/server"
)

// validateCORS returns the problems of the section http.cors.
func validateCORS(c server.CORS) error {
	var problems []error
	all := slices.Contains(c.Origins, "*")
	for _, origin := range c.Origins {
		if origin != "*" && !isOrigin(origin) {
			problems = append(problems, fmt.Errorf(
				"http.cors.origins: %q: want an origin as browsers send it, such as https://ui.example.com or http://localhost:3000, or * alone", origin))
		}
	}
	if all && len(c.Origins) > 1 {
		problems = append(problems, errors.New("http.cors.origins: * is every origin: want it alone"))
	}
	switch {
	case c.Credentials && all:
		problems = append(problems, errors.New("http.cors.credentials: want origins by name, not *: any page could use the credentials of its visitors"))
	case c.Credentials && len(c.Origins) == 0:
		problems = append(problems, errors.New("http.cors.credentials: requires http.cors.origins, which is empty"))
	}
	return errors.Join(problems...)
}

// isOrigin reports whether s is an origin in the form that browsers send
// (https://www.rfc-editor.org/rfc/rfc6454#section-6.2).
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Contains(s, "*") {
		return false
	}
	defaultPort := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return s == u.Scheme+"://"+u.Host && s == strings.ToLower(s) && !strings.HasSuffix(u.Host, ":") && u.Port() != defaultPort
}
