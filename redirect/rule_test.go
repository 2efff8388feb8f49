package redirect

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
)

func TestRules(t *testing.T) {
	p, err := New(Config{
		CDN: map[string]CDN{"edge": {Kind: "plain", BaseURL: "https://edge.example.net/b/"}},
		Rules: []Rule{
			{From: []string{"10.0.0.0/8", "2001:db8::/32", "192.0.2.7"}, Target: "direct"},
			{Repository: "team/*", MinSize: 1000, Target: "presign"},
			{UserAgent: `^(containerd|docker)/`, Repository: "**/private", Target: "direct"},
			{UserAgent: "BuildKit", Target: "cdn:edge"},
			{MinSize: 5000, Target: "cdn:edge"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		req  Request
		rule string
		host string // of the URL, "" if direct
	}{
		{Request{Client: netip.MustParseAddr("10.1.2.3"), Size: 9999}, "redirect.Config.Rules[0]", ""},
		{Request{Client: netip.MustParseAddr("::ffff:10.1.2.3")}, "redirect.Config.Rules[0]", ""},
		{Request{Client: netip.MustParseAddr("2001:db8::1")}, "redirect.Config.Rules[0]", ""},
		{Request{Client: netip.MustParseAddr("2001:db8::1%eth0")}, "redirect.Config.Rules[0]", ""},
		{Request{Client: netip.MustParseAddr("192.0.2.7")}, "redirect.Config.Rules[0]", ""},
		{Request{Client: netip.MustParseAddr("192.0.2.8")}, "default", "bucket.s3.example.net"},
		{Request{}, "default", "bucket.s3.example.net"},
		{Request{Repository: "team/app", Size: 1000}, "redirect.Config.Rules[1]", "bucket.s3.example.net"},
		{Request{Repository: "team/app", Size: 999}, "default", "bucket.s3.example.net"},
		{Request{Repository: "team/app/sub", Size: 1000}, "default", "bucket.s3.example.net"},
		{Request{Repository: "myteam/app", Size: 1000}, "default", "bucket.s3.example.net"},
		{Request{Repository: "a/b/private", UserAgent: "docker/28"}, "redirect.Config.Rules[2]", ""},
		{Request{Repository: "a/b/private", UserAgent: "not docker/28"}, "default", "bucket.s3.example.net"},
		{Request{UserAgent: "moby/BuildKit 0.20"}, "redirect.Config.Rules[3]", "edge.example.net"},
		{Request{Size: 5000}, "redirect.Config.Rules[4]", "edge.example.net"},
		{Request{Size: 5000, Key: "docker/registry/v2/blobs/sha256/9f/9f86/data"}, "default", "bucket.s3.example.net"},
		{Request{Size: 5000, Unverified: true}, "default", "bucket.s3.example.net"},
		{Request{Size: 5000, Key: "meta/token-key"}, "default", "bucket.s3.example.net"},
		{Request{Size: 5000, Key: "data/../meta/token-key"}, "default", "bucket.s3.example.net"},
		{Request{Size: 5000, Key: "data/a+b"}, "default", "bucket.s3.example.net"},
	} {
		if test.req.Key == "" {
			test.req.Key = testKey
		}
		d, err := p.Decide(t.Context(), signing(), test.req)
		host := ""
		if !d.Direct() {
			u, err := parseURL(d.URL)
			if err != nil {
				t.Fatal(err)
			}
			host = u.Host
		}
		if err != nil || d.Rule != test.rule || host != test.host {
			t.Errorf("Decide(%+v) = %v, %v, want %s to %q", test.req, d, err, test.rule, test.host)
		}
		steps := p.Explain(test.req)
		if last := steps[len(steps)-1]; last.Rule != d.Rule || last.Target != d.Target || !last.Matches {
			t.Errorf("Explain(%+v) ends with %+v, and Decide returns %v", test.req, last, d)
		}
	}
}

func TestExplain(t *testing.T) {
	p, err := New(Config{
		CDN: map[string]CDN{"edge": {Kind: "plain", BaseURL: "https://edge.example.net"}},
		Rules: []Rule{
			{From: []string{"10.0.0.0/8", "192.168.0.0/16"}, Target: "direct"},
			{Repository: "team/**", Target: "direct"},
			{MinSize: 1 << 20, Target: "direct"},
			{UserAgent: "containerd", Target: "direct"},
			{Target: "cdn:edge"},
			{MinSize: 100, Target: "presign"},
			{Target: "direct"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	req := Request{Repository: "library/ubuntu", Size: 100, UserAgent: "curl/8", Client: netip.MustParseAddr("192.0.2.1"), Key: "adopted/x"}
	want := []Step{
		{"redirect.Config.Rules[0]", "direct", false, "client 192.0.2.1 is in none of 10.0.0.0/8, 192.168.0.0/16"},
		{"redirect.Config.Rules[1]", "direct", false, `repository "library/ubuntu" does not match "team/**"`},
		{"redirect.Config.Rules[2]", "direct", false, "size 100 is less than 1048576"},
		{"redirect.Config.Rules[3]", "direct", false, `User-Agent "curl/8" does not match "containerd"`},
		{"redirect.Config.Rules[4]", "cdn:edge", false, `a CDN never serves the key "adopted/x"`},
		{"redirect.Config.Rules[5]", "presign", true, "all conditions hold"},
	}
	if diff := cmp.Diff(want, p.Explain(req)); diff != "" {
		t.Errorf("Explain(%+v) (-want +got):\n%s", req, diff)
	}

	req.Key, req.Unverified = testKey, true
	if got, want := p.Explain(req)[4], (Step{"redirect.Config.Rules[4]", "cdn:edge", false, "a CDN never serves bytes that this service has not hashed"}); got != want {
		t.Errorf("unverified: got %+v, want %+v", got, want)
	}

	req = Request{Key: "adopted/x"}
	steps := p.Explain(req)
	if got := steps[0].Why; got != "the client's address is unknown" {
		t.Errorf("Why without a client = %q, want that its address is unknown", got)
	}
	if got, want := steps[len(steps)-1], (Step{"redirect.Config.Rules[6]", "direct", true, "has no conditions"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := p.Explain(Request{}), []Step{{"inline", "direct", true, "the bytes are in the blob's record"}}; !cmp.Equal(got, want) {
		t.Errorf("inline: got %+v, want %+v", got, want)
	}
}

// Redirects agrees with Decide, for a store that signs and for a store that does
// not. Several ranges are only redirected to a CDN that supports them.
func TestRedirects(t *testing.T) {
	cdns := map[string]CDN{"sas": {Kind: "frontdoor", BaseURL: testBase}, "ranges": {Kind: "plain", BaseURL: testBase, Ranges: true}}
	for _, c := range signerCases() {
		cdns[c.cdn.Kind] = c.cdn
	}
	p, err := New(Config{CDN: cdns})
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{"direct", "presign"}
	for name := range p.cdns {
		targets = append(targets, "cdn:"+name)
	}
	sas := bucketFunc(func(string, drivers.SignOptions) (drivers.Signed, error) {
		return drivers.Signed{URL: "https://account.example.net/x?sig=5ec7e7", Expires: time.Now().Add(time.Hour)}, nil
	})
	for _, target := range targets {
		p, err := New(Config{CDN: cdns, Default: target})
		if err != nil {
			t.Fatal(err)
		}
		for _, bucket := range []Signer{sas, failing(errors.ErrUnsupported)} {
			testRedirects(t, p, bucket, Request{Key: testKey}, true)
			testRedirects(t, p, bucket, Request{Key: testKey, Ranges: true}, target == "cdn:ranges")
		}
		if target == "cdn:ranges" && !p.Redirects(Request{Key: testKey, Ranges: true}, false) {
			t.Error("Redirects of several ranges to a CDN that supports them = false, want true")
		}
		if p.Redirects(Request{}, true) {
			t.Errorf("%s: Redirects of inline bytes = true, want false", target)
		}
	}
}

// testRedirects tests that Redirects and Decide agree. Unless allowed, neither may
// redirect.
func testRedirects(t *testing.T, p *Policy, bucket Signer, req Request, allowed bool) {
	t.Helper()
	_, err := bucket.SignGet(t.Context(), testKey, drivers.SignOptions{})
	signs := err == nil
	d, err := p.Decide(t.Context(), bucket, req)
	got := p.Redirects(req, signs)
	if err != nil || got == d.Direct() || got && !allowed {
		t.Errorf("%s: Redirects(Ranges: %v, signs: %v) = %v, Decide = %v, %v", d.Target, req.Ranges, signs, got, d, err)
	}
}
