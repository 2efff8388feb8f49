package match

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"testing"
)

func TestOrigin(t *testing.T) {
	trusted := Proxies{Networks: Networks{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, c := range []struct {
		proxies    Proxies
		peer, host string
		tls        bool
		proto, xfh string
		want       string
	}{
		{Proxies{}, "10.0.0.1:1", "a.example", false, "https", "b.example", "http://a.example"},
		{Proxies{}, "10.0.0.1:1", "a.example:5000", true, "", "", "https://a.example:5000"},
		{trusted, "10.0.0.1:1", "a.example", false, "https", "", "https://a.example"},
		{trusted, "10.0.0.1:1", "a.example", false, "HTTPS, http", "b.example, c.example", "https://b.example"},
		{trusted, "10.0.0.1:1", "a.example", false, "gopher", "", "http://a.example"},
		{trusted, "192.0.2.1:1", "a.example", false, "https", "b.example", "http://a.example"},
		{Proxies{Count: 1}, "192.0.2.1:1", "[::1]:5000", false, "https", "", "https://[::1]:5000"},
		{trusted, "10.0.0.1:1", "a.example", false, "https", `b.example",error="x`, ""},
		{Proxies{}, "10.0.0.1:1", "", false, "", "", ""},
	} {
		r := &http.Request{RemoteAddr: c.peer, Host: c.host, Header: http.Header{}}
		r.Header.Set("X-Forwarded-Proto", c.proto)
		r.Header.Set("X-Forwarded-Host", c.xfh)
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := c.proxies.Origin(r); got != c.want {
			t.Errorf("Origin(%+v) = %q, want %q", c, got, c.want)
		}
	}
}
