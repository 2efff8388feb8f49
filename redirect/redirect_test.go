package redirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers"
)

// bucketFunc is a store that can only sign.
type bucketFunc func(key string, opts drivers.SignOptions) (drivers.Signed, error)

func (f bucketFunc) SignGet(_ context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	return f(key, opts)
}

// signing is a store that signs by the contract of package drivers.
func signing() Signer {
	return bucketFunc(func(key string, opts drivers.SignOptions) (drivers.Signed, error) {
		expires := time.Now().Truncate(opts.Window).Add(opts.Window + opts.Expires)
		url := fmt.Sprintf("https://bucket.s3.example.net/%s?X-Amz-Expires=%d&X-Amz-Signature=5ec7e7", key, expires.Unix())
		return drivers.Signed{URL: url, Expires: expires}, nil
	})
}

func failing(err error) Signer {
	return bucketFunc(func(string, drivers.SignOptions) (drivers.Signed, error) { return drivers.Signed{}, err })
}

// The zero Config redirects to a store that can sign.
func TestDefault(t *testing.T) {
	p, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	req := Request{Repository: "library/ubuntu", Key: testKey}
	synctest.Test(t, func(t *testing.T) {
		d, err := p.Decide(t.Context(), signing(), req)
		if err != nil || d.Direct() || d.Rule != "default" || d.Target != "presign" {
			t.Errorf("Decide with a store that signs = %v, %v, want a redirect by default", d, err)
		}
		if left := time.Until(d.Expires); left < DefaultExpiry || left > DefaultExpiry+DefaultWindow {
			t.Errorf("the URL lives %v, want between %v and %v", left, DefaultExpiry, DefaultExpiry+DefaultWindow)
		}
	})
	d, err := p.Decide(t.Context(), failing(fmt.Errorf("filesystem: sign: %w", errors.ErrUnsupported)), req)
	if want := (Decision{Rule: "default", Target: "presign"}); err != nil || d != want || !d.Direct() {
		t.Errorf("Decide with a store that does not sign = %v, %v, want %v", d, err, want)
	}
	unused := bucketFunc(func(string, drivers.SignOptions) (drivers.Signed, error) {
		t.Error("SignGet was called for inline bytes")
		return drivers.Signed{}, nil
	})
	d, err = p.Decide(t.Context(), unused, Request{Repository: "library/ubuntu"})
	if want := (Decision{Rule: "inline", Target: "direct"}); err != nil || d != want {
		t.Errorf("Decide for inline bytes = %v, %v, want %v", d, err, want)
	}
}

// Decide returns an error if the store fails to sign, or if the URL has expired.
func TestDecideFails(t *testing.T) {
	p, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	req := Request{Repository: "library/ubuntu", Key: testKey}
	if d, err := p.Decide(t.Context(), failing(drivers.ErrBusy), req); !errors.Is(err, drivers.ErrBusy) || !d.Direct() {
		t.Errorf("Decide with a store that is busy = %v, %v, want %v", d, err, drivers.ErrBusy)
	}
	synctest.Test(t, func(t *testing.T) {
		for _, left := range []time.Duration{-time.Minute, 0} {
			expired := bucketFunc(func(string, drivers.SignOptions) (drivers.Signed, error) {
				return drivers.Signed{URL: "https://bucket/x?sig=1", Expires: time.Now().Add(left)}, nil
			})
			if d, err := p.Decide(t.Context(), expired, req); err == nil || !d.Direct() {
				t.Errorf("Decide with a URL that expires in %v = %v, %v, want an error", left, d, err)
			}
		}
	})
}

// Config.Default decides after the last rule. The store signs keys that a CDN may
// not serve.
func TestDefaultTarget(t *testing.T) {
	data, adopted := Request{Size: 1, Key: testKey}, Request{Size: 1, Key: "adopted/x"}
	for _, test := range []struct {
		byDefault string
		req       Request
		target    string
		host      string // of the URL, "" if direct
	}{
		{"", data, "presign", "bucket.s3.example.net"},
		{"presign", data, "presign", "bucket.s3.example.net"},
		{"direct", data, "direct", ""},
		{"direct", adopted, "direct", ""},
		{"cdn:edge", data, "cdn:edge", "edge.example.net"},
		{"cdn:edge", adopted, "presign", "bucket.s3.example.net"},
		{"cdn:edge", Request{Size: 1, Key: testKey, Unverified: true}, "presign", "bucket.s3.example.net"},
		{"direct", Request{Size: 2, Key: testKey}, "presign", "bucket.s3.example.net"}, // by the rule
	} {
		p, err := New(Config{
			CDN:     map[string]CDN{"edge": {Kind: "plain", BaseURL: "https://edge.example.net"}},
			Rules:   []Rule{{MinSize: 2, Target: "presign"}},
			Default: test.byDefault,
		})
		if err != nil {
			t.Fatal(err)
		}
		d, err := p.Decide(t.Context(), signing(), test.req)
		host := ""
		if u, err := parseURL(d.URL); err == nil {
			host = u.Host
		}
		if err != nil || d.Target != test.target || host != test.host {
			t.Errorf("with the default %q, Decide(%+v) = %v, %v, want %s at %q", test.byDefault, test.req, d, err, test.target, test.host)
		}
		steps := p.Explain(test.req)
		if last := steps[len(steps)-1]; last.Rule != d.Rule || last.Target != d.Target || !last.Matches {
			t.Errorf("with the default %q, Explain(%+v) ends with %+v, and Decide returns %v", test.byDefault, test.req, last, d)
		}
	}
	// If the store signs nothing, URLs may live longer than its signatures could.
	if _, err := New(Config{Expiry: 8 * 24 * time.Hour, Default: "direct"}); err != nil {
		t.Errorf("a policy without redirects and a long expiry: %v", err)
	}
}

func TestMaxLife(t *testing.T) {
	cloudflare := map[string]CDN{"cf": {Kind: "cloudflare", BaseURL: testBase, Lifetime: 3 * time.Hour, Keys: []Key{{Value: "k"}}}}
	for _, test := range []struct {
		config Config
		want   time.Duration
	}{
		{Config{}, 25 * time.Minute},
		{Config{Expiry: time.Hour, Window: time.Second}, time.Hour + time.Second},
		{Config{CDN: cloudflare}, 3 * time.Hour},
	} {
		p, err := New(test.config)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.MaxLife(); got != test.want {
			t.Errorf("MaxLife of %+v = %v, want %v", test.config, got, test.want)
		}
	}
}

// TestCheck checks URLs that only the driver can sign.
func TestCheck(t *testing.T) {
	url := func(u string) Signer {
		return bucketFunc(func(string, drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{URL: u, Expires: time.Now().Add(time.Hour)}, nil
		})
	}
	service := Config{PublicURL: "https://Registry.Example.com:8443/"}
	frontDoor := Config{CDN: map[string]CDN{"edge": {Kind: "frontdoor", BaseURL: testBase}}}
	never := Config{PublicURL: service.PublicURL, Rules: []Rule{{Target: "direct"}}}
	for _, test := range []struct {
		config Config
		bucket Signer
		want   string // part of the error, "" for none
	}{
		{service, signing(), ""},
		{service, failing(errors.ErrUnsupported), ""},
		{service, failing(errors.New("no credentials")), "no credentials"},
		{service, url("https://example.com/x?sig=5ec7e7"), ""}, // clients send a parent nothing
		{service, url("https://notregistry.example.com/x?sig=5ec7e7"), ""},
		{service, url("https://registry.example.com:9000/x?sig=5ec7e7"), "registry.example.com is the service's own"},
		{service, url("https://s3.registry.example.com./x?sig=5ec7e7"), "s3.registry.example.com is a subdomain"},
		{service, url("https://s3.bücher.example/x?sig=5ec7e7"), `host "s3.bücher.example": write it in punycode`},
		{Config{}, url("https://s3.bücher.example/x"), ""}, // nothing to compare it with
		{service, url("http://s3.example.com/x?sig=5ec7e7"), "http://s3.example.com/x?REDACTED is plain http"},
		{service, url("/x?sig=5ec7e7"), "not an absolute"},
		{service, url("ftp://user:5ec7e7@s3.example.com/x"), "ftp://REDACTED@s3.example.com/x is not an absolute"},
		{service, url("ftp://s3.example.com/x#5ec7e7"), "ftp://s3.example.com/x#REDACTED is not an absolute"},
		{Config{}, url("http://s3.registry.example.com/x"), ""},
		{never, url("https://registry.example.com/x"), ""},
		{frontDoor, url("https://account.blob.core.windows.net/c/x?sv=1&sig=5ec7e7"), ""},
		{frontDoor, failing(errors.ErrUnsupported), ""},
		{frontDoor, url("https://bucket.s3.amazonaws.com/x?X-Amz-Signature=5ec7e7"), `redirect.Config.CDN["edge"]: the store's signature is good for its own host only`},
		{frontDoor, url("https://storage.googleapis.com/b/x?X-Goog-Signature=5ec7e7"), `redirect.Config.CDN["edge"]: the store's signature is good for its own host only`},
	} {
		p, err := New(test.config)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Check(t.Context(), test.bucket)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("Check = %v, want %q", err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "5ec7e7") {
			t.Errorf("%v shows the signature", err)
		}
	}
}

func TestNothingInLogs(t *testing.T) {
	for _, c := range append(signerCases(), signerCase{name: "presign", cdn: CDN{Kind: "frontdoor", BaseURL: testBase}}) {
		sas := bucketFunc(func(key string, _ drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{URL: "https://account.example.net/" + key + "?sv=2026-12-06&sig=5ec7e75ec7e75ec7e7", Expires: time.Now().Add(time.Hour)}, nil
		})
		d, err := cdnPolicy(t, c.cdn).Decide(t.Context(), sas, Request{Key: testKey})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("read", "decision", d)
		}
		fmt.Fprintf(&out, "%v %+v %s", d, d, d)
		_, query, _ := strings.Cut(d.URL, "?")
		for part := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == '=' || r == '~' }) {
			if len(part) > 10 && !strings.Contains(part, testKey) && strings.Contains(out.String(), part) {
				t.Errorf("%s: %q of %s is in the log:\n%s", c.name, part, d.URL, out.String())
			}
		}
		if n := strings.Count(out.String(), testURL+"?REDACTED"); n != 5 {
			t.Errorf("%s: the URL is in the log %d times, want 5:\n%s", c.name, n, out.String())
		}
	}
	for _, k := range []Key{{ID: "a", Value: "secret"}, {ID: "a", File: "k.pem"}, {ID: "a", Env: "K"}} {
		if s := fmt.Sprintf("%v %+v", k, k); strings.Contains(s, "secret") || !strings.Contains(s, `key "a"`) {
			t.Errorf("%s", s)
		}
	}
}

func TestRedacted(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"https://h/p", "https://h/p"},
		{"https://h/p?sig=a", "https://h/p?REDACTED"},
		{"https://user:word@h:1/a%2Fb?x#frag", "https://REDACTED@h:1/a%2Fb?REDACTED#REDACTED"},
		{"https://h/p#sig", "https://h/p#REDACTED"},
		{"/p?sig=a", "REDACTED"},
		{"sig=a", "REDACTED"},
		{"https://h/\x7f?sig=a", "REDACTED"},
		{"mailto:sig", "REDACTED"},
		{"", "REDACTED"},
	} {
		if got := Redacted(test.url); got != test.want {
			t.Errorf("Redacted(%q) = %q, want %q", test.url, got, test.want)
		}
	}
}
