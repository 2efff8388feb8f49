package redirect

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// refusal is a configuration that New refuses, and the lines of the error.
type refusal struct {
	config Config
	want   []string
}

// withCDN returns a configuration with one CDN.
func withCDN(c CDN) Config {
	c.BaseURL = testBase
	return Config{CDN: map[string]CDN{"edge": c}}
}

// refusedLifetimes returns configurations with invalid lifetimes, defaults or proxies.
func refusedLifetimes() []refusal {
	const day = 24 * time.Hour
	return []refusal{
		{Config{Expiry: -time.Second}, []string{"redirect.Config.Expiry: -1s is not a whole number of seconds, one or more"}},
		{Config{Expiry: 1500 * time.Millisecond}, []string{"redirect.Config.Expiry: 1.5s is not a whole number of seconds, one or more"}},
		{Config{Window: time.Millisecond}, []string{"redirect.Config.Window: 1ms is not a whole number of seconds, one or more"}},
		{Config{TrustedProxies: -1}, []string{"redirect.Config.TrustedProxies: -1 is negative"}},
		{Config{TrustedProxies: 1, TrustedNetworks: []string{"10.0.0.0/8"}}, []string{"redirect.Config.TrustedNetworks: redirect.Config.TrustedProxies, its older form, is set as well: set one of them"}},
		{Config{TrustedNetworks: []string{"10.0.0.0/8", "here", "10.0.0.1/8", "fe80::1%eth0", "::ffff:10.0.0.1"}}, []string{
			`redirect.Config.TrustedNetworks: "here" is neither a network such as 10.0.0.0/8 nor an address`,
			`redirect.Config.TrustedNetworks: "10.0.0.1/8" has bits set past its length (meant 10.0.0.0/8?)`,
			`redirect.Config.TrustedNetworks: "fe80::1%eth0" is neither a network such as 10.0.0.0/8 nor an address`,
			`redirect.Config.TrustedNetworks: "::ffff:10.0.0.1" must be written as IPv4`,
		}},
		{Config{TrustedNetworks: []string{"0.0.0.0/0", "::/0"}}, []string{
			`redirect.Config.TrustedNetworks: "0.0.0.0/0" contains every address, so any client could claim to be another`,
			`redirect.Config.TrustedNetworks: "::/0" contains every address, so any client could claim to be another`,
		}},
		{Config{Default: "cdn:edge"}, []string{`redirect.Config.Default: there is no redirect.Config.CDN["edge"] (defined: none)`}},
		{Config{Default: "nowhere"}, []string{`redirect.Config.Default: "nowhere" is not one of presign, direct, cdn:<name>`}},
		{Config{PublicURL: "registry.example.com"}, []string{`redirect.Config.PublicURL: "registry.example.com" is not an absolute http or https URL`}},
		{Config{PublicURL: "https://bücher.example.com"}, []string{`redirect.Config.PublicURL: host "bücher.example.com": write it in punycode (xn--…)`}},
		{Config{Expiry: 6 * day, MaxPresign: 6 * day}, []string{"redirect.Config.Expiry: 144h0m0s and a window of 5m0s make 144h5m0s, and URLs that the store signs live 144h0m0s at most"}},
		{Config{Expiry: 7 * day}, []string{"redirect.Config.Expiry: 168h0m0s and a window of 5m0s make 168h5m0s, and URLs that the store signs live 168h0m0s at most"}},
		{Config{Expiry: 7*day - DefaultWindow + time.Second}, []string{
			"redirect.Config.Expiry: 167h55m1s and a window of 5m0s make 168h0m1s, and URLs that the store signs live 168h0m0s at most"}},
	}
}

// refusedBaseURLs returns configurations with an invalid BaseURL.
func refusedBaseURLs() []refusal {
	plain := func(base string) Config {
		return Config{PublicURL: "https://registry.example.com", CDN: map[string]CDN{"edge": {Kind: "plain", BaseURL: base}}}
	}
	return []refusal{
		{plain("https://registry.example.com/cdn"), []string{`redirect.Config.CDN["edge"].BaseURL: host registry.example.com is the service's own: ` +
			"clients would send their credentials along (use another host)"}},
		{plain("https://REGISTRY.example.com.:8443"), []string{`redirect.Config.CDN["edge"].BaseURL: host registry.example.com is the service's own: ` +
			"clients would send their credentials along (use another host)"}},
		{plain("https://cdn.registry.example.com"), []string{`redirect.Config.CDN["edge"].BaseURL: host cdn.registry.example.com is a subdomain of ` +
			"the service's registry.example.com: clients would send their credentials along (use a host that is not below it)"}},
		{plain("http://cdn.example.net"), []string{`redirect.Config.CDN["edge"].BaseURL: http://cdn.example.net is plain http, and the service is https`}},
		{plain(""), []string{`redirect.Config.CDN["edge"].BaseURL: "" is not an absolute http or https URL`}},
		{plain("ftp://cdn.example.net"), []string{`redirect.Config.CDN["edge"].BaseURL: "ftp://cdn.example.net" is not an absolute http or https URL`}},
		{plain("ftp://u:secret@cdn.example.net?secret"), []string{`redirect.Config.CDN["edge"].BaseURL: ftp://REDACTED@cdn.example.net?REDACTED is not an absolute http or https URL`}},
		{plain("https://cdn.example.net/~a"), []string{`redirect.Config.CDN["edge"].BaseURL: has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)`}},
		{plain("https://u:secret@cdn.example.net"), []string{`redirect.Config.CDN["edge"].BaseURL: has a user, query or fragment`}},
		{plain("https://cdn.example.net?a=b"), []string{`redirect.Config.CDN["edge"].BaseURL: has a user, query or fragment`}},
		{plain("https://cdn.example.net/#a"), []string{`redirect.Config.CDN["edge"].BaseURL: has a user, query or fragment`}},
		{plain("https://cdn.example.net/a%20b"), []string{`redirect.Config.CDN["edge"].BaseURL: has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)`}},
		{plain("https://cdn.example.net/a%2Fb"), []string{`redirect.Config.CDN["edge"].BaseURL: has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)`}},
		{plain("https://cdn.example.net/?"), []string{`redirect.Config.CDN["edge"].BaseURL: has a user, query or fragment`}},
		{plain("https://cdn.example.net//a"), []string{`redirect.Config.CDN["edge"].BaseURL: has //, /./ or /../ in its path, which clients and CDNs leave out`}},
		{plain("https://cdn.example.net/a//b"), []string{`redirect.Config.CDN["edge"].BaseURL: has //, /./ or /../ in its path, which clients and CDNs leave out`}},
		{plain("https://cdn.example.net/a/../b"), []string{`redirect.Config.CDN["edge"].BaseURL: has //, /./ or /../ in its path, which clients and CDNs leave out`}},
		{plain("https://cdn.example.net/a/."), []string{`redirect.Config.CDN["edge"].BaseURL: has //, /./ or /../ in its path, which clients and CDNs leave out`}},
		{plain("https://:8443/a"), []string{`redirect.Config.CDN["edge"].BaseURL: "https://:8443/a" is not an absolute http or https URL`}},
		{plain("https://bücher.example.net"), []string{`redirect.Config.CDN["edge"].BaseURL: has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)`}},
	}
}

// refusedCDNs returns configurations with other invalid fields of a CDN.
func refusedCDNs() []refusal {
	text, base64Key := []Key{{Value: "k"}}, []Key{{ID: "a", Value: "nZtRohdNF9m3cKM24IcK4w=="}}
	return []refusal{
		{withCDN(CDN{Kind: "cloudflare", Keys: text, Lifetime: 20 * time.Minute}), []string{
			`redirect.Config.CDN["edge"].Lifetime: 20m0s must be whole seconds, and at least 25m0s, the sum of redirect.Config.Expiry and redirect.Config.Window`}},
		{withCDN(CDN{Kind: "cloudflare", Keys: text, Lifetime: 25*time.Minute - time.Second}), []string{
			`redirect.Config.CDN["edge"].Lifetime: 24m59s must be whole seconds, and at least 25m0s, the sum of redirect.Config.Expiry and redirect.Config.Window`}},
		{withCDN(CDN{Kind: "cloudflare", Keys: text, Lifetime: 26*time.Minute + time.Millisecond}), []string{
			`redirect.Config.CDN["edge"].Lifetime: 26m0.001s must be whole seconds, and at least 25m0s, the sum of redirect.Config.Expiry and redirect.Config.Window`}},
		{withCDN(CDN{Kind: "cloudflare", Keys: text}), []string{
			`redirect.Config.CDN["edge"].Lifetime: 0s must be whole seconds, and at least 25m0s, the sum of redirect.Config.Expiry and redirect.Config.Window`}},
		{withCDN(CDN{Kind: "fastly"}), []string{
			`redirect.Config.CDN["edge"].Kind: "fastly" is not one of akamai, cloudcdn, cloudflare, cloudfront, frontdoor, mediacdn, nginx, plain`}},
		{withCDN(CDN{Kind: "plain", Keys: text}), []string{`redirect.Config.CDN["edge"].Keys: a CDN of kind plain does not use it`}},
		{withCDN(CDN{Kind: "nginx", Keys: text, Hash: "sha1"}), []string{`redirect.Config.CDN["edge"].Hash: a CDN of kind nginx does not use it`}},
		{withCDN(CDN{Kind: "nginx", Keys: text, Lifetime: 1}), []string{`redirect.Config.CDN["edge"].Lifetime: a CDN of kind nginx does not use it`}},
		{withCDN(CDN{Kind: "cloudcdn", Keys: base64Key, Param: "x"}), []string{`redirect.Config.CDN["edge"].Param: a CDN of kind cloudcdn does not use it`}},
		{withCDN(CDN{Kind: "akamai", Keys: text, Form: "url"}), []string{`redirect.Config.CDN["edge"].Form: a CDN of kind akamai does not use it`}},
		{withCDN(CDN{Kind: "nginx"}), []string{`redirect.Config.CDN["edge"].Keys: a CDN of kind nginx needs at least one`}},
		{withCDN(CDN{Kind: "nginx", Keys: []Key{{ID: "a", Value: "k"}}}), []string{`redirect.Config.CDN["edge"].Keys[0].ID: keys of this kind have no id`}},
		{withCDN(CDN{Kind: "cloudcdn", Keys: []Key{{Value: base64Key[0].Value}}}), []string{
			`redirect.Config.CDN["edge"].Keys[0].ID: "": want 1 to 63 characters from A-Z a-z 0-9 _ -`}},
		{withCDN(CDN{Kind: "cloudcdn", Keys: []Key{{ID: strings.Repeat("a", 64), Value: base64Key[0].Value}}}), []string{
			`redirect.Config.CDN["edge"].Keys[0].ID: "` + strings.Repeat("a", 64) + `": want 1 to 63 characters from A-Z a-z 0-9 _ -`}},
		{withCDN(CDN{Kind: "cloudcdn", Keys: base64Key, Form: "canned"}), []string{`redirect.Config.CDN["edge"].Form: "canned" is not one of url, prefix`}},
		{withCDN(CDN{Kind: "cloudfront", Form: "url", Hash: "md5", Keys: []Key{{ID: "K", File: "testdata/rsa.pem"}}}), []string{
			`redirect.Config.CDN["edge"].Form: "url" is not one of canned, custom`, `redirect.Config.CDN["edge"].Hash: "md5" is not one of sha256, sha1`}},
		{withCDN(CDN{Kind: "akamai", Keys: []Key{{Value: "aa"}}, Param: "a&b"}), []string{
			`redirect.Config.CDN["edge"].Param: "a&b" has a character other than A-Z a-z 0-9 - . _`}},
	}
}

// refusedRules returns configurations with invalid rules.
func refusedRules() []refusal {
	const day = 24 * time.Hour
	rules := func(r ...Rule) Config {
		return Config{Rules: r, CDN: map[string]CDN{"edge": {Kind: "plain", BaseURL: testBase}}}
	}
	return []refusal{
		{Config{Expiry: 7 * day, Rules: []Rule{{MinSize: 1, Target: "presign"}, {Target: "direct"}}}, []string{
			"redirect.Config.Expiry: 168h0m0s and a window of 5m0s make 168h5m0s, and URLs that the store signs live 168h0m0s at most"}},
		{Config{Expiry: 7 * day, CDN: map[string]CDN{"edge": {Kind: "frontdoor", BaseURL: testBase}}, Rules: []Rule{{Target: "direct"}}}, []string{
			`redirect.Config.CDN["edge"].Kind: redirect.Config.Expiry and redirect.Config.Window add up to 168h5m0s, and a SAS lives 168h0m0s at most`}},
		{rules(Rule{}), []string{`redirect.Config.Rules[0].Target: "" is not one of presign, direct, cdn:<name>`}},
		{rules(Rule{Target: "cdn:other"}), []string{`redirect.Config.Rules[0].Target: there is no redirect.Config.CDN["other"] (defined: edge)`}},
		{rules(Rule{Target: "direct"}, Rule{Target: "presign"}), []string{
			"redirect.Config.Rules[1]: is never reached, because redirect.Config.Rules[0] has no conditions"}},
		{rules(Rule{Target: "direct"}, Rule{MinSize: 1, Target: "presign"}, Rule{MinSize: 2, Target: "direct"}), []string{
			"redirect.Config.Rules[1]: is never reached, because redirect.Config.Rules[0] has no conditions",
			"redirect.Config.Rules[2]: is never reached, because redirect.Config.Rules[0] has no conditions"}},
		{rules(Rule{Target: "cdn:edge"}, Rule{MinSize: 1, Target: "presign"}, Rule{From: []string{"10.0.0.0/8"}, Target: "cdn:edge"}), []string{
			"redirect.Config.Rules[2]: is never reached, because redirect.Config.Rules[0] has no conditions"}},
		{rules(Rule{Repository: "A", Target: "direct"}, Rule{Target: "direct"}), []string{
			`redirect.Config.Rules[0].Repository: "A" has a 'A', which no repository name has`}},
		{rules(Rule{Repository: "/library/*", Target: "direct"}, Rule{Repository: "library/", Target: "direct"},
			Rule{Repository: "library//x", Target: "direct"}), []string{
			`redirect.Config.Rules[0].Repository: "/library/*" has an empty segment, which no repository name has`,
			`redirect.Config.Rules[1].Repository: "library/" has an empty segment, which no repository name has`,
			`redirect.Config.Rules[2].Repository: "library//x" has an empty segment, which no repository name has`}},
		{Config{Rules: []Rule{{Target: "cdn:edge"}}}, []string{`redirect.Config.Rules[0].Target: there is no redirect.Config.CDN["edge"] (defined: none)`}},
		{rules(Rule{From: []string{"10.0.0.0/33", "example.com", "fe80::1%eth0"}, Target: "direct"}), []string{
			`redirect.Config.Rules[0].From: "10.0.0.0/33" is neither a network such as 10.0.0.0/8 nor an address`,
			`redirect.Config.Rules[0].From: "example.com" is neither a network such as 10.0.0.0/8 nor an address`,
			`redirect.Config.Rules[0].From: "fe80::1%eth0" is neither a network such as 10.0.0.0/8 nor an address`}},
		{rules(Rule{From: []string{"10.0.0.1/8"}, Target: "direct"}), []string{
			`redirect.Config.Rules[0].From: "10.0.0.1/8" has bits set past its length (meant 10.0.0.0/8?)`}},
		{rules(Rule{From: []string{"::ffff:10.0.0.0/104"}, Target: "direct"}), []string{
			`redirect.Config.Rules[0].From: "::ffff:10.0.0.0/104" must be written as IPv4`}},
		{rules(Rule{Repository: "Team/[ab]", MinSize: -1, UserAgent: "(", Target: "direct"}), []string{
			`redirect.Config.Rules[0].Repository: "Team/[ab]" has a 'T', which no repository name has`,
			"redirect.Config.Rules[0].MinSize: -1 is negative",
			"redirect.Config.Rules[0].UserAgent: error parsing regexp: missing closing ): `(`"}},
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range slices.Concat(refusedLifetimes(), refusedBaseURLs(), refusedCDNs(), refusedRules()) {
		_, err := New(test.config)
		if err == nil {
			t.Errorf("New(%+v) = nil, want %q", test.config, test.want)
			continue
		}
		if diff := cmp.Diff(test.want, strings.Split(err.Error(), "\n")); diff != "" {
			t.Errorf("New(%+v) (-want +got):\n%s", test.config, diff)
		}
	}
}

// TestNewAccepts tests configurations that are barely valid.
func TestNewAccepts(t *testing.T) {
	const longest = 7*24*time.Hour - DefaultWindow
	edge := func(c CDN) map[string]CDN {
		c.BaseURL = testBase
		return map[string]CDN{"edge": c}
	}
	text := []Key{{Value: "k"}}
	for _, c := range []Config{
		{Expiry: longest},
		{Expiry: longest, CDN: edge(CDN{Kind: "frontdoor"}), Rules: []Rule{{Target: "cdn:edge"}, {Target: "direct"}}},
		// An expiry that only a CDN can honour.
		{Expiry: 30 * 24 * time.Hour, CDN: edge(CDN{Kind: "nginx", Keys: text}), Rules: []Rule{{Target: "cdn:edge"}, {Target: "direct"}}},
		{CDN: edge(CDN{Kind: "cloudflare", Keys: text, Lifetime: DefaultExpiry + DefaultWindow})},
		{CDN: edge(CDN{Kind: "cloudcdn", Keys: []Key{{ID: strings.Repeat("a", 63), Value: "nZtRohdNF9m3cKM24IcK4w=="}}})},
		{PublicURL: "http://registry.example.com", CDN: map[string]CDN{"edge": {Kind: "plain", BaseURL: "http://cdn.example.net"}}},
		// The second CDN is for some clients, the first for all other clients.
		{CDN: edge(CDN{Kind: "plain"}), Rules: []Rule{{MinSize: 1, Target: "cdn:edge"}, {Target: "cdn:edge"}, {MinSize: 1, Target: "presign"}}},
	} {
		if _, err := New(c); err != nil {
			t.Errorf("New(%+v): %v", c, err)
		}
	}
}

// TestBaseURL checks that signed URLs are in the form that clients send, for
// every form of BaseURL.
func TestBaseURL(t *testing.T) {
	for _, test := range []struct{ base, want string }{
		{"https://cdn.example.net", "https://cdn.example.net/"},
		{"https://cdn.example.net//", "https://cdn.example.net/"},
		{"https://cdn.example.net/Berth/x/", "https://cdn.example.net/Berth/x/"},
		{"HTTPS://CDN.Example.net:443/b", "https://cdn.example.net/b/"},
		{"https://cdn.example.net:", "https://cdn.example.net/"},
		{"https://cdn.example.net:8443/b", "https://cdn.example.net:8443/b/"},
		{"https://cdn.example.net:80", "https://cdn.example.net:80/"},
		{"http://cdn.example.net:80", "http://cdn.example.net/"},
		{"https://[2001:DB8::1]:443/b", "https://[2001:db8::1]/b/"},
		{"https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/"},
		{"https://[2001:db8::443]", "https://[2001:db8::443]/"},
	} {
		c := CDN{Kind: "cloudcdn", BaseURL: test.base, Keys: []Key{{ID: "a", Value: "nZtRohdNF9m3cKM24IcK4w=="}}}
		p, err := New(Config{CDN: map[string]CDN{"edge": c}})
		if err != nil {
			t.Errorf("%s: %v", test.base, err)
			continue
		}
		want := cloudCDN{keyName: "a", key: secretBase64(t, c.Keys[0]).([]byte)}
		signed, err := want.sign(unsignedURL{url: test.want + testKey, life: testLife()})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.cdns["edge"].sign(testKey, testLife(), nil); err != nil || got.URL != signed.URL {
			t.Errorf("BaseURL %s: sign = %s, %v, want %s", test.base, got.URL, err, signed.URL)
		}
	}
}
