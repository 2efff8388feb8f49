package redirect

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNewRefuses(t *testing.T) {
	plain := func(base string) Config {
		return Config{PublicURL: "https://registry.example.com", CDN: map[string]CDN{"edge": {Kind: "plain", BaseURL: base}}}
	}
	with := func(c CDN) Config {
		c.BaseURL = testBase
		return Config{CDN: map[string]CDN{"edge": c}}
	}
	rules := func(r ...Rule) Config {
		return Config{Rules: r, CDN: map[string]CDN{"edge": {Kind: "plain", BaseURL: testBase}}}
	}
	text, base64Key := []Key{{Value: "k"}}, []Key{{ID: "a", Value: "nZtRohdNF9m3cKM24IcK4w=="}}
	const day = 24 * time.Hour

	for _, test := range []struct {
		config Config
		want   []string // the lines of the error
	}{
		{Config{Expiry: -time.Second}, []string{"redirect.expiry: -1s is not a whole number of seconds, one or more"}},
		{Config{Expiry: 1500 * time.Millisecond}, []string{"redirect.expiry: 1.5s is not a whole number of seconds, one or more"}},
		{Config{Window: time.Millisecond}, []string{"redirect.window: 1ms is not a whole number of seconds, one or more"}},
		{Config{TrustedProxies: -1}, []string{"redirect.trusted_proxies: -1 is negative"}},
		{Config{TrustedProxies: 1, TrustedNetworks: []string{"10.0.0.0/8"}}, []string{"trusted_proxies: redirect.trusted_proxies, its older form, is set as well: set one of them"}},
		{Config{TrustedNetworks: []string{"10.0.0.0/8", "here", "10.0.0.1/8", "fe80::1%eth0", "::ffff:10.0.0.1"}}, []string{
			`trusted_proxies: "here" is neither a network such as 10.0.0.0/8 nor an address`,
			`trusted_proxies: "10.0.0.1/8" has bits set past its length (meant 10.0.0.0/8?)`,
			`trusted_proxies: "fe80::1%eth0" is neither a network such as 10.0.0.0/8 nor an address`,
			`trusted_proxies: "::ffff:10.0.0.1" must be written as IPv4`,
		}},
		{Config{TrustedNetworks: []string{"0.0.0.0/0", "::/0"}}, []string{
			`trusted_proxies: "0.0.0.0/0" has every address in it, so that any client could claim to be another`,
			`trusted_proxies: "::/0" has every address in it, so that any client could claim to be another`,
		}},
		{Config{Default: "cdn:edge"}, []string{"redirect.default: there is no redirect.cdn.edge (there are: none)"}},
		{Config{Default: "nowhere"}, []string{`redirect.default: "nowhere" is not one of presign, direct, cdn:<name>`}},
		{Config{PublicURL: "registry.example.com"}, []string{`public_url: "registry.example.com" is not an absolute http or https URL`}},
		{Config{PublicURL: "https://bücher.example.com"}, []string{`public_url: host "bücher.example.com": write it in punycode (xn--…)`}},

		{Config{Expiry: 6 * day, MaxPresign: 6 * day}, []string{"redirect.expiry: 144h0m0s and a window of 5m0s make 144h5m0s, and URLs that the store signs live 144h0m0s at most"}},
		{Config{Expiry: 7 * day}, []string{"redirect.expiry: 168h0m0s and a window of 5m0s make 168h5m0s, and URLs that the store signs live 168h0m0s at most"}},
		{Config{Expiry: 7*day - DefaultWindow + time.Second}, []string{
			"redirect.expiry: 167h55m1s and a window of 5m0s make 168h0m1s, and URLs that the store signs live 168h0m0s at most"}},
		{Config{Expiry: 7 * day, Rules: []Rule{{MinSize: 1, Target: "presign"}, {Target: "direct"}}}, []string{
			"redirect.expiry: 168h0m0s and a window of 5m0s make 168h5m0s, and URLs that the store signs live 168h0m0s at most"}},
		{Config{Expiry: 7 * day, CDN: map[string]CDN{"edge": {Kind: "frontdoor", BaseURL: testBase}}, Rules: []Rule{{Target: "direct"}}}, []string{
			"redirect.cdn.edge.kind: redirect.expiry and redirect.window make 168h5m0s, and a SAS lives 168h0m0s at most"}},
		{with(CDN{Kind: "cloudflare", Keys: text, Lifetime: 20 * time.Minute}), []string{
			"redirect.cdn.edge.lifetime: 20m0s must be whole seconds, and at least the 25m0s that redirect.expiry and redirect.window make"}},
		{with(CDN{Kind: "cloudflare", Keys: text, Lifetime: 25*time.Minute - time.Second}), []string{
			"redirect.cdn.edge.lifetime: 24m59s must be whole seconds, and at least the 25m0s that redirect.expiry and redirect.window make"}},
		{with(CDN{Kind: "cloudflare", Keys: text, Lifetime: 26*time.Minute + time.Millisecond}), []string{
			"redirect.cdn.edge.lifetime: 26m0.001s must be whole seconds, and at least the 25m0s that redirect.expiry and redirect.window make"}},
		{with(CDN{Kind: "cloudflare", Keys: text}), []string{
			"redirect.cdn.edge.lifetime: 0s must be whole seconds, and at least the 25m0s that redirect.expiry and redirect.window make"}},

		{plain("https://registry.example.com/cdn"), []string{"redirect.cdn.edge.base_url: host registry.example.com is the service's own: " +
			"clients would send their credentials along (use another host)"}},
		{plain("https://REGISTRY.example.com.:8443"), []string{"redirect.cdn.edge.base_url: host registry.example.com is the service's own: " +
			"clients would send their credentials along (use another host)"}},
		{plain("https://cdn.registry.example.com"), []string{"redirect.cdn.edge.base_url: host cdn.registry.example.com is a subdomain of " +
			"the service's registry.example.com: clients would send their credentials along (use a host that is not below it)"}},
		{plain("http://cdn.example.net"), []string{"redirect.cdn.edge.base_url: http://cdn.example.net is plain http, and the service is https"}},
		{plain(""), []string{`redirect.cdn.edge.base_url: "" is not an absolute http or https URL`}},
		{plain("ftp://cdn.example.net"), []string{`redirect.cdn.edge.base_url: "ftp://cdn.example.net" is not an absolute http or https URL`}},
		{plain("ftp://u:secret@cdn.example.net?secret"), []string{"redirect.cdn.edge.base_url: ftp://REDACTED@cdn.example.net?REDACTED is not an absolute http or https URL"}},
		{plain("https://cdn.example.net/~a"), []string{"redirect.cdn.edge.base_url: has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)"}},
		{plain("https://u:secret@cdn.example.net"), []string{"redirect.cdn.edge.base_url: has a user, query or fragment"}},
		{plain("https://cdn.example.net?a=b"), []string{"redirect.cdn.edge.base_url: has a user, query or fragment"}},
		{plain("https://cdn.example.net/#a"), []string{"redirect.cdn.edge.base_url: has a user, query or fragment"}},
		{plain("https://cdn.example.net/a%20b"), []string{"redirect.cdn.edge.base_url: has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)"}},
		{plain("https://cdn.example.net/a%2Fb"), []string{"redirect.cdn.edge.base_url: has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)"}},
		{plain("https://cdn.example.net/?"), []string{"redirect.cdn.edge.base_url: has a user, query or fragment"}},
		{plain("https://cdn.example.net//a"), []string{"redirect.cdn.edge.base_url: has //, /./ or /../ in its path, which clients and CDNs leave out"}},
		{plain("https://cdn.example.net/a//b"), []string{"redirect.cdn.edge.base_url: has //, /./ or /../ in its path, which clients and CDNs leave out"}},
		{plain("https://cdn.example.net/a/../b"), []string{"redirect.cdn.edge.base_url: has //, /./ or /../ in its path, which clients and CDNs leave out"}},
		{plain("https://cdn.example.net/a/."), []string{"redirect.cdn.edge.base_url: has //, /./ or /../ in its path, which clients and CDNs leave out"}},
		{plain("https://:8443/a"), []string{`redirect.cdn.edge.base_url: "https://:8443/a" is not an absolute http or https URL`}},
		{plain("https://bücher.example.net"), []string{"redirect.cdn.edge.base_url: has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)"}},

		{with(CDN{Kind: "fastly"}), []string{
			`redirect.cdn.edge.kind: "fastly" is not one of akamai, cloudcdn, cloudflare, cloudfront, frontdoor, mediacdn, nginx, plain`}},
		{with(CDN{Kind: "plain", Keys: text}), []string{"redirect.cdn.edge.keys: a CDN of kind plain has no such setting"}},
		{with(CDN{Kind: "nginx", Keys: text, Hash: "sha1"}), []string{"redirect.cdn.edge.hash: a CDN of kind nginx has no such setting"}},
		{with(CDN{Kind: "nginx", Keys: text, Lifetime: 1}), []string{"redirect.cdn.edge.lifetime: a CDN of kind nginx has no such setting"}},
		{with(CDN{Kind: "cloudcdn", Keys: base64Key, Param: "x"}), []string{"redirect.cdn.edge.param: a CDN of kind cloudcdn has no such setting"}},
		{with(CDN{Kind: "akamai", Keys: text, Form: "url"}), []string{"redirect.cdn.edge.form: a CDN of kind akamai has no such setting"}},
		{with(CDN{Kind: "nginx"}), []string{"redirect.cdn.edge.keys: a CDN of kind nginx needs at least one"}},
		{with(CDN{Kind: "nginx", Keys: []Key{{ID: "a", Value: "k"}}}), []string{"redirect.cdn.edge.keys[0].id: the keys of this kind have none"}},
		{with(CDN{Kind: "cloudcdn", Keys: []Key{{Value: base64Key[0].Value}}}), []string{
			`redirect.cdn.edge.keys[0].id: "" is not 1 to 63 of A-Z a-z 0-9 _ -`}},
		{with(CDN{Kind: "cloudcdn", Keys: []Key{{ID: strings.Repeat("a", 64), Value: base64Key[0].Value}}}), []string{
			`redirect.cdn.edge.keys[0].id: "` + strings.Repeat("a", 64) + `" is not 1 to 63 of A-Z a-z 0-9 _ -`}},
		{with(CDN{Kind: "cloudcdn", Keys: base64Key, Form: "canned"}), []string{`redirect.cdn.edge.form: "canned" is not one of url, prefix`}},
		{with(CDN{Kind: "cloudfront", Form: "url", Hash: "md5", Keys: []Key{{ID: "K", File: "testdata/rsa.pem"}}}), []string{
			`redirect.cdn.edge.form: "url" is not one of canned, custom`, `redirect.cdn.edge.hash: "md5" is not one of sha256, sha1`}},
		{with(CDN{Kind: "akamai", Keys: []Key{{Value: "aa"}}, Param: "a&b"}), []string{
			`redirect.cdn.edge.param: "a&b" has a character other than A-Z a-z 0-9 - . _`}},

		{rules(Rule{}), []string{`redirect.rules[0].target: "" is not one of presign, direct, cdn:<name>`}},
		{rules(Rule{Target: "cdn:other"}), []string{"redirect.rules[0].target: there is no redirect.cdn.other (there are: edge)"}},
		{rules(Rule{Target: "direct"}, Rule{Target: "presign"}), []string{
			"redirect.rules[1]: is never reached, for redirect.rules[0] has no conditions"}},
		{rules(Rule{Target: "direct"}, Rule{MinSize: 1, Target: "presign"}, Rule{MinSize: 2, Target: "direct"}), []string{
			"redirect.rules[1]: is never reached, for redirect.rules[0] has no conditions",
			"redirect.rules[2]: is never reached, for redirect.rules[0] has no conditions"}},
		{rules(Rule{Target: "cdn:edge"}, Rule{MinSize: 1, Target: "presign"}, Rule{From: []string{"10.0.0.0/8"}, Target: "cdn:edge"}), []string{
			"redirect.rules[2]: is never reached, for redirect.rules[0] has no conditions"}},
		{rules(Rule{Repository: "A", Target: "direct"}, Rule{Target: "direct"}), []string{
			`redirect.rules[0].repository: "A" has a 'A', which no repository name has`}},
		{rules(Rule{Repository: "/library/*", Target: "direct"}, Rule{Repository: "library/", Target: "direct"},
			Rule{Repository: "library//x", Target: "direct"}), []string{
			`redirect.rules[0].repository: "/library/*" has an empty segment, which no repository name has`,
			`redirect.rules[1].repository: "library/" has an empty segment, which no repository name has`,
			`redirect.rules[2].repository: "library//x" has an empty segment, which no repository name has`}},
		{Config{Rules: []Rule{{Target: "cdn:edge"}}}, []string{"redirect.rules[0].target: there is no redirect.cdn.edge (there are: none)"}},
		{rules(Rule{From: []string{"10.0.0.0/33", "example.com", "fe80::1%eth0"}, Target: "direct"}), []string{
			`redirect.rules[0].from: "10.0.0.0/33" is neither a network such as 10.0.0.0/8 nor an address`,
			`redirect.rules[0].from: "example.com" is neither a network such as 10.0.0.0/8 nor an address`,
			`redirect.rules[0].from: "fe80::1%eth0" is neither a network such as 10.0.0.0/8 nor an address`}},
		{rules(Rule{From: []string{"10.0.0.1/8"}, Target: "direct"}), []string{
			`redirect.rules[0].from: "10.0.0.1/8" has bits set past its length (meant 10.0.0.0/8?)`}},
		{rules(Rule{From: []string{"::ffff:10.0.0.0/104"}, Target: "direct"}), []string{
			`redirect.rules[0].from: "::ffff:10.0.0.0/104" must be written as IPv4`}},
		{rules(Rule{Repository: "Team/[ab]", MinSize: -1, UserAgent: "(", Target: "direct"}), []string{
			`redirect.rules[0].repository: "Team/[ab]" has a 'T', which no repository name has`,
			"redirect.rules[0].min_size: -1 is negative",
			"redirect.rules[0].user_agent: error parsing regexp: missing closing ): `(`"}},
	} {
		_, err := New(test.config)
		if err == nil {
			t.Errorf("New(%+v) succeeds, want %q", test.config, test.want)
			continue
		}
		if diff := cmp.Diff(test.want, strings.Split(err.Error(), "\n")); diff != "" {
			t.Errorf("New(%+v) (-want +got):\n%s", test.config, diff)
		}
	}
}

// TestNewTakes tests configurations that are barely valid.
func TestNewTakes(t *testing.T) {
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
// every form of base_url.
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
		signed, err := want.sign(link{url: test.want + testKey, life: testLife()})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.cdns["edge"].sign(testKey, testLife(), nil); err != nil || got.URL != signed.URL {
			t.Errorf("base_url %s: %s, %v, want %s", test.base, got.URL, err, signed.URL)
		}
	}
}

func TestBadKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pemOf := func(block string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}))
	}
	pkcs8 := func(key any, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pemOf("PRIVATE KEY", der, err)
	}
	rsa3072, rsaErr := rsa.GenerateKey(rand.Reader, 3072)
	p384, p384Err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	x25519, x25519Err := ecdh.X25519().GenerateKey(rand.Reader)
	ed25519PEM, err := os.ReadFile("testdata/ed25519.pem")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("BERTH_TEST_KEY", "c2VjcmV0")
	t.Setenv("BERTH_TEST_EMPTY", " \n")

	for _, test := range []struct {
		kind string
		key  Key
		want string // after redirect.cdn.edge.keys[1]
	}{
		{"nginx", Key{}, ": give one of value, file, env"},
		{"nginx", Key{Value: "secret", Env: "BERTH_TEST_KEY"}, ": give one of value, file, env"},
		{"nginx", Key{Value: " "}, ".value: is empty or not set"},
		{"nginx", Key{Env: "BERTH_TEST_UNSET"}, ".env: BERTH_TEST_UNSET: is empty or not set"},
		{"nginx", Key{Env: "BERTH_TEST_EMPTY"}, ".env: BERTH_TEST_EMPTY: is empty or not set"},
		{"nginx", Key{File: dir + "/absent"}, ".file: " + dir + "/absent: no such file or directory"},
		{"nginx", Key{File: file("empty", "\n")}, ".file: " + dir + "/empty: is empty or not set"},
		{"nginx", Key{File: file("utf16", "\xff\xfes\x00e\x00")}, ".file: " + dir + "/utf16: is not one line of text in UTF-8"},
		{"nginx", Key{File: file("utf16le", "s\x00e\x00")}, ".file: " + dir + "/utf16le: is not one line of text in UTF-8"},
		{"nginx", Key{File: file("lines", "secret\r\nsecret\r\n")}, ".file: " + dir + "/lines: is not one line of text in UTF-8"},
		{"nginx", Key{File: file("bom", "\ufeff\r\n")}, ".file: " + dir + "/bom: is empty or not set"},
		{"nginx", Key{File: dir}, ".file: " + dir + ": is a directory"},
		{"akamai", Key{Value: "secret"}, ".value: is not an even number of hexadecimal digits"},
		{"akamai", Key{Value: "abc"}, ".value: is not an even number of hexadecimal digits"},
		{"cloudcdn", Key{Value: "secret!"}, ".value: is not base64"},
		{"cloudcdn", Key{Env: "BERTH_TEST_KEY"}, ".env: BERTH_TEST_KEY: want base64 of 16 bytes for Cloud CDN, and this is of 6"},
		{"cloudcdn", Key{Value: "c2VjcmV0c2VjcmV0c2VjcmV0"}, ".value: want base64 of 16 bytes for Cloud CDN, and this is of 18"},
		{"mediacdn", Key{Value: "secret!"}, ".value: is neither PEM nor base64"},
		{"mediacdn", Key{Value: "c2VjcmV0"}, ".value: want an Ed25519 key of 32 or 64 bytes for Media CDN, and this has 6"},
		{"mediacdn", Key{Value: strings.Repeat("c2VjcmV0", 10) + "c2VjcmU"}, ".value: want an Ed25519 key of 32 or 64 bytes for Media CDN, and this has 65"},
		{"mediacdn", Key{Value: strings.Repeat("A", 86)}, ".value: the public half of the key does not belong to the private one"},
		{"mediacdn", Key{File: "testdata/rsa.pem"}, ".file: testdata/rsa.pem: want an Ed25519 key for Media CDN, and this is a *rsa.PrivateKey"},
		{"cloudfront", Key{File: file("text", "secret")}, ".file: " + dir + "/text: is not a PEM private key"},
		{"cloudfront", Key{File: file("cert", pemOf("CERTIFICATE", nil, nil))}, ".file: " + dir + "/cert: is a PEM CERTIFICATE, not a private key"},
		{"cloudfront", Key{File: file("locked", pemOf("ENCRYPTED PRIVATE KEY", nil, nil))},
			".file: " + dir + "/locked: the private key is encrypted; give it without a passphrase"},
		{"cloudfront", Key{File: file("locked1", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")},
			".file: " + dir + "/locked1: the private key is encrypted; give it without a passphrase"},
		{"cloudfront", Key{File: file("ssh", pemOf("OPENSSH PRIVATE KEY", nil, nil))},
			".file: " + dir + "/ssh: is a private key in OpenSSH's own format; give one that openssl made, in PKCS #8"},
		{"mediacdn", Key{File: file("bag", "Bag Attributes\n"+pemOf("CERTIFICATE", nil, nil))}, ".file: " + dir + "/bag: is a PEM CERTIFICATE, not a private key"},
		{"cloudfront", Key{File: file("broken", pemOf("EC PRIVATE KEY", []byte("x"), nil))}, ".file: " + dir + "/broken: PEM EC PRIVATE KEY: "},
		{"cloudfront", Key{File: file("rsa3072", pkcs8(rsa3072, rsaErr))},
			".file: " + dir + "/rsa3072: CloudFront takes RSA of 2048 bits and ECDSA on P-256, and this key is RSA of 3072 bits"},
		{"cloudfront", Key{File: file("p384", pkcs8(p384, p384Err))},
			".file: " + dir + "/p384: CloudFront takes RSA of 2048 bits and ECDSA on P-256, and this key is ECDSA on P-384"},
		{"cloudfront", Key{Value: string(ed25519PEM)},
			".value: CloudFront takes RSA of 2048 bits and ECDSA on P-256, and this key is a ed25519.PrivateKey"},
		{"cloudfront", Key{File: file("x25519", pkcs8(x25519, x25519Err))},
			".file: " + dir + "/x25519: is a private key of type *ecdh.PrivateKey, which cannot sign"},
	} {
		good := map[string]Key{
			"nginx":      {Value: "k"},
			"akamai":     {Value: "aa"},
			"cloudcdn":   {Value: "nZtRohdNF9m3cKM24IcK4w=="},
			"mediacdn":   {File: "testdata/ed25519.pem"},
			"cloudfront": {File: "testdata/rsa.pem"},
		}[test.kind]
		if test.kind != "nginx" && test.kind != "akamai" {
			good.ID, test.key.ID = "a", "b"
		}
		// The bad key is second. It does not sign, but New finds it anyway.
		_, err := New(Config{CDN: map[string]CDN{"edge": {Kind: test.kind, BaseURL: testBase, Keys: []Key{good, test.key}}}})
		if want := "redirect.cdn.edge.keys[1]" + test.want; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s with %v: %v, want %s", test.kind, test.key, err, want)
		}
		if err != nil && strings.Contains(strings.TrimPrefix(err.Error(), dir), "secret") {
			t.Errorf("%v shows the key", err)
		}
	}
}

// TestKeySources reads a key from each source, and in each of its encodings.
func TestKeySources(t *testing.T) {
	data, err := os.ReadFile("testdata/ed25519.pem")
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseEd25519(data)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("BERTH_TEST_KEY", string(data))
	windows := filepath.Join(t.TempDir(), "windows.pem")
	if err := os.WriteFile(windows, []byte("\ufeff"+strings.ReplaceAll(string(data), "\n", "\r\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, k := range []Key{
		{File: windows},
		{Value: "Bag Attributes\n" + string(data)},
		{File: "testdata/ed25519.pem"},
		{Env: "BERTH_TEST_KEY"},
		{Value: string(data)},
		{Value: base64Of(key.Seed(), "+/", "=")},
		{Value: base64Of(key, "-_", "=")},
		{Value: "  " + base64Of(key, "-_", "") + "\n"},
	} {
		k.ID = "my-key"
		got := signTest(t, CDN{Kind: "mediacdn", BaseURL: testBase, Keys: []Key{k}}, testLife())
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%v signs %s, want %s", k, got, want)
		}
	}
}

// TestTextKey checks that what an editor adds around a secret is not part of it.
func TestTextKey(t *testing.T) {
	dir := t.TempDir()
	want := signTest(t, CDN{Kind: "nginx", BaseURL: testBase, Keys: []Key{{Value: "a $ecret, größer"}}}, testLife())
	for i, content := range []string{"a $ecret, größer\n", "a $ecret, größer\r\n", "\ufeffa $ecret, größer\r\n", " a $ecret, größer\t"} {
		file := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := signTest(t, CDN{Kind: "nginx", BaseURL: testBase, Keys: []Key{{File: file}}}, testLife()); got != want {
			t.Errorf("a file with %q signs %s, want %s", content, got, want)
		}
	}
}

func base64Of(key []byte, last, padding string) string {
	s := base64.StdEncoding.EncodeToString(key)
	return strings.NewReplacer("+", last[:1], "/", last[1:], "=", padding).Replace(s)
}
