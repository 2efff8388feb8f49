package redirect

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers"
)

const (
	testBase = "https://cdn.example.net/berth"
	testKey  = "data/sha256/9f/9f86d081884c7d65/5d41402abc4b2a76b9719d911017c592"
	testURL  = testBase + "/" + testKey
)

// testLife is the lifetime of the URLs that testdata/vectors.sh signs.
func testLife() life {
	return life{issued: time.Unix(1772366400, 0), expires: time.Unix(1772368200, 0)}
}

// signerCase is a CDN with two keys, and its verifier. Some secrets are from the
// vendors' examples.
type signerCase struct {
	name   string // as in testdata/vectors.txt
	cdn    CDN    // signs with the first of two keys
	next   Key    // the second
	verify verifier
	public func(t *testing.T, k Key) any // the key in the form that the CDN holds
}

func signerCases() []signerCase {
	nginxKey, nginxNext := Key{Value: "secret"}, Key{Value: "next secret"}
	akamaiKey, akamaiNext := Key{Value: "52a152a152a152a152a152a152a1"}, Key{Value: "aa00aa"}
	cloudflareKey, cloudflareNext := Key{Value: "mysecrettoken"}, Key{Value: "next"}
	cloudCDNKey := Key{ID: "my-key", Value: "nZtRohdNF9m3cKM24IcK4w=="}
	cloudCDNNext := Key{ID: "next", Value: "AAAAAAAAAAAAAAAAAAAAAA"}
	mediaKey, mediaNext := Key{ID: "my-key", File: "testdata/ed25519.pem"}, Key{ID: "my-key", File: "testdata/ed25519-next.pem"}

	cases := []signerCase{
		{"cloudcdn-url", CDN{Kind: "cloudcdn", Keys: []Key{cloudCDNKey}}, cloudCDNNext, verifyCloudCDN, secretBase64},
		{"cloudcdn-prefix", CDN{Kind: "cloudcdn", Form: "prefix", Keys: []Key{cloudCDNKey}}, cloudCDNNext, verifyCloudCDN, secretBase64},
		{"mediacdn-url", CDN{Kind: "mediacdn", Keys: []Key{mediaKey}}, mediaNext, verifyMediaCDN, publicKey},
		{"mediacdn-prefix", CDN{Kind: "mediacdn", Form: "prefix", Keys: []Key{mediaKey}}, mediaNext, verifyMediaCDN, publicKey},
		{"cloudflare", CDN{Kind: "cloudflare", Lifetime: 30 * time.Minute, Keys: []Key{cloudflareKey}}, cloudflareNext, verifyCloudflare, secretText},
		{"akamai", CDN{Kind: "akamai", Keys: []Key{akamaiKey}}, akamaiNext, verifyAkamai, secretHex},
		{"nginx", CDN{Kind: "nginx", Keys: []Key{nginxKey}}, nginxNext, verifyNginx, secretText},
	}
	for _, algorithm := range []string{"rsa", "ec"} {
		for _, hash := range []string{"sha1", "sha256"} {
			for _, form := range []string{"canned", "custom"} {
				cases = append(cases, signerCase{
					name: fmt.Sprintf("cloudfront-%s-%s-%s", algorithm, hash, form),
					cdn: CDN{Kind: "cloudfront", Form: form, Hash: hash,
						Keys: []Key{{ID: "K2JCJMDEHXQW5F", File: "testdata/" + algorithm + ".pem"}}},
					next:   Key{ID: "K36X4X2EO997HM", File: "testdata/" + algorithm + "-next.pem"},
					verify: verifyCloudFront,
					public: publicKey,
				})
			}
		}
	}
	for i := range cases {
		cases[i].cdn.BaseURL = testBase
	}
	return cases
}

func publicKey(t *testing.T, k Key) any {
	data, err := os.ReadFile(k.File)
	if err != nil {
		t.Fatal(err)
	}
	key, err := parsePrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

func secretText(_ *testing.T, k Key) any { return []byte(k.Value) }

func secretHex(t *testing.T, k Key) any {
	key, err := hex.DecodeString(k.Value)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func secretBase64(t *testing.T, k Key) any {
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.Value, "="))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// known returns the keys in the form that the CDN's configuration holds.
func (c signerCase) known(t *testing.T, keys ...Key) map[string]any {
	known := make(map[string]any)
	for i, k := range keys {
		id := k.ID
		if id == "" || c.cdn.Kind == "mediacdn" { // its ID is the name of the keyset
			id = fmt.Sprint(i)
		}
		known[id] = c.public(t, k)
	}
	return known
}

func cdnPolicy(t *testing.T, c CDN) *Policy {
	t.Helper()
	p, err := New(Config{
		PublicURL: "https://registry.example.com",
		CDN:       map[string]CDN{"edge": c},
		Rules:     []Rule{{Target: "cdn:edge"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func signTest(t *testing.T, c CDN, l life) string {
	t.Helper()
	signed, err := cdnPolicy(t, c).rules[0].cdn.sign(testKey, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	return signed.URL
}

// TestCDNAccepts checks that each CDN's verifier accepts the URLs of a policy
// until they expire, and refuses them afterwards and with any one character
// changed.
func TestCDNAccepts(t *testing.T) {
	for _, c := range signerCases() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, 3, 1, 12, 2, 30, 0, time.UTC)))
				p := cdnPolicy(t, c.cdn)
				known := c.known(t, c.cdn.Keys...)
				d, err := p.Decide(t.Context(), nil, Request{Key: testKey})
				if err != nil {
					t.Fatal(err)
				}
				for _, at := range []time.Time{time.Now(), d.Expires.Add(-time.Second)} {
					if err := c.verify(d.URL, at, known); err != nil {
						t.Errorf("%s at %v: %v", d.URL, at, err)
					}
				}
				if err := c.verify(d.URL, d.Expires.Add(time.Second), known); err == nil {
					t.Errorf("%s is accepted past its expiry", d.URL)
				}
				if left := time.Until(d.Expires); left < DefaultExpiry || left > p.maxLife {
					t.Errorf("the URL lives %v, want between %v and %v", left, DefaultExpiry, p.maxLife)
				}
				for i := len("https://cdn.example.net/"); i < len(d.URL); i++ {
					other := "A"
					if d.URL[i] == 'A' {
						other = "B"
					}
					tampered := d.URL[:i] + other + d.URL[i+1:]
					if c.verify(tampered, time.Now(), known) == nil {
						t.Errorf("accepted with a character changed at %d: %s", i, tampered)
					}
				}
			})
		})
	}
}

// TestQueryAdded adds a parameter to a URL, as some proxies do. The URL must
// still work in the forms that allow it.
func TestQueryAdded(t *testing.T) {
	for _, c := range signerCases() {
		if c.cdn.Kind != "cloudfront" && c.cdn.Kind != "cloudcdn" && c.cdn.Kind != "mediacdn" {
			continue
		}
		u := strings.Replace(signTest(t, c.cdn, testLife()), "?", "?from=proxy&", 1)
		err := c.verify(u, testLife().issued, c.known(t, c.cdn.Keys...))
		if stands := c.cdn.Form == "custom" || c.cdn.Form == "prefix"; stands != (err == nil) {
			t.Errorf("%s: %s: %v, want accepted: %v", c.name, u, err, stands)
		}
	}
}

// TestParam checks that another name of the parameter leaves the token unchanged.
func TestParam(t *testing.T) {
	for _, c := range signerCases() {
		byDefault := map[string]string{"cloudflare": "verify", "akamai": "__token__"}[c.cdn.Kind]
		if byDefault == "" {
			continue
		}
		want := strings.Replace(signTest(t, c.cdn, testLife()), "?"+byDefault+"=", "?hdnts=", 1)
		c.cdn.Param = "hdnts"
		if got := signTest(t, c.cdn, testLife()); got != want {
			t.Errorf("%s: got %s\nwant %s", c.name, got, want)
		}
	}
}

func TestRotation(t *testing.T) {
	for _, c := range signerCases() {
		t.Run(c.name, func(t *testing.T) {
			old := c.cdn.Keys[0]
			before := signTest(t, c.cdn, testLife())
			c.cdn.Keys = []Key{old, c.next}
			if u := signTest(t, c.cdn, testLife()); c.verify(u, testLife().issued, c.known(t, old)) != nil {
				t.Errorf("%s is not signed by the first key", u)
			}
			c.cdn.Keys = []Key{c.next, old}
			after := signTest(t, c.cdn, testLife())

			both := c.known(t, old, c.next)
			for _, u := range []string{before, after} {
				if err := c.verify(u, testLife().issued, both); err != nil {
					t.Errorf("%s: %v while the CDN knows both keys", u, err)
				}
			}
			if c.verify(after, testLife().issued, c.known(t, old)) == nil {
				t.Errorf("%s is accepted by a CDN that knows the old key only", after)
			}
		})
	}
}

// TestReplicas makes each decision twice, with policies that share nothing.
func TestReplicas(t *testing.T) {
	for _, c := range append(signerCases(), signerCase{name: "plain", cdn: CDN{Kind: "plain", BaseURL: testBase}}) {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)))
				first, second := cdnPolicy(t, c.cdn), cdnPolicy(t, c.cdn)
				decide := func(p *Policy) Decision {
					d, err := p.Decide(t.Context(), nil, Request{Key: testKey})
					if err != nil {
						t.Fatal(err)
					}
					return d
				}
				a := decide(first)
				time.Sleep(DefaultWindow - time.Nanosecond)
				if b := decide(second); a != b {
					t.Errorf("in one window: %+v and %+v", a, b)
				}
				time.Sleep(time.Nanosecond)
				if b := decide(second); a.Expires.Equal(b.Expires) || a.URL == b.URL && c.name != "plain" {
					t.Errorf("in the next window: %+v again", b)
				}
			})
		})
	}
}

func TestFrontDoor(t *testing.T) {
	p := cdnPolicy(t, CDN{Kind: "frontdoor", BaseURL: "https://blobs.azurefd.net/container/prefix/"})
	const sas = "sv=2025-01-05&se=2026-03-01T12%3A30%3A00Z&sr=b&sp=r&rsct=text%2Fplain&sig=a%2Fb%3D"
	expires := time.Now().Add(time.Hour)
	bucket := bucketFunc(func(key string, opts drivers.SignOptions) (drivers.Signed, error) {
		if key != testKey || opts.ContentType != "text/plain" || opts.ContentDisposition != "attachment" || opts.Expires != DefaultExpiry || opts.Window != DefaultWindow {
			t.Errorf("SignGet(%q, %+v)", key, opts)
		}
		return drivers.Signed{URL: "https://account.blob.core.windows.net/container/prefix/" + key + "?" + sas, Expires: expires}, nil
	})
	d, err := p.Decide(t.Context(), bucket, Request{Key: testKey, ContentType: "text/plain"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "https://blobs.azurefd.net/container/prefix/" + testKey + "?" + sas; d.URL != want || !d.Expires.Equal(expires) {
		t.Errorf("got %s until %v\nwant %s until %v", d.URL, d.Expires, want, expires)
	}

	unsigned := bucketFunc(func(string, drivers.SignOptions) (drivers.Signed, error) {
		return drivers.Signed{URL: "https://account.blob.core.windows.net/container/x", Expires: expires}, nil
	})
	if d, err := p.Decide(t.Context(), unsigned, Request{Key: testKey}); err == nil {
		t.Errorf("without a SAS: %v, want an error", d)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, c := range append(signerCases(), signerCase{name: "plain", cdn: CDN{Kind: "plain", BaseURL: testBase}}) {
		b.Run(c.name, func(b *testing.B) {
			p, err := New(Config{CDN: map[string]CDN{"edge": c.cdn}, Rules: []Rule{
				{From: []string{"10.0.0.0/8"}, Repository: "team/**", UserAgent: "containerd", Target: "cdn:edge"},
				{Target: "cdn:edge"},
			}})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := p.Decide(b.Context(), nil, Request{Repository: "library/ubuntu", Key: testKey}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
