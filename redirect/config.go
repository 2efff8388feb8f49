package redirect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// What [Config] takes for zero.
const (
	DefaultExpiry = 20 * time.Minute
	DefaultWindow = 5 * time.Minute
)

// weekOfStores is the longest that a URL signed by any of the stores can live:
// SigV4 and GCS V4 signatures, and the keys of Azure's user delegation SAS, end
// after a week.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
// https://cloud.google.com/storage/docs/access-control/signed-urls
// https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
const weekOfStores = 7 * 24 * time.Hour

const (
	targetDirect  = "direct"
	targetPresign = "presign"
	targetCDN     = "cdn:" // and its name
)

// Config is the section "redirect" of the configuration. Its zero value signs
// if the store can, and serves directly if not.
type Config struct {
	// Expiry is the least time that a URL works for, in whole seconds. Zero is
	// [DefaultExpiry].
	Expiry time.Duration

	// Window is what signing times are rounded down to, in whole seconds. Zero
	// is [DefaultWindow]; one second is as good as no rounding.
	Window time.Duration

	// MaxPresign is the longest that a URL which the store signs can live. Zero
	// is a week, the most that any store allows.
	MaxPresign time.Duration

	// CDNs are the CDNs that rules can name.
	CDNs map[string]CDN

	// Rules are tried in order.
	Rules []Rule

	// Default is the target of reads that no rule matches: "presign", "direct"
	// or "cdn:<name>". Empty is "presign", which is also the target of reads
	// that a CDN may not be shown.
	Default string

	// PublicURL is the URL that clients know this service by. Redirects to its
	// own host are refused. If it is empty, that cannot be looked at.
	PublicURL string

	// TrustedNetworks are the networks (10.0.0.0/8) or addresses of the proxies in
	// front of this service, the key trusted_proxies. See [Policy.ClientAddr].
	TrustedNetworks []string

	// TrustedProxies is an older form of TrustedNetworks, and excludes it: the
	// number of proxies in front of this service, each of which appends to
	// X-Forwarded-For the address that it was called from.
	TrustedProxies int
}

// Rule sends the reads that meet all its conditions to a target. A condition
// that is empty is met by everything.
type Rule struct {
	From       []string // networks (10.0.0.0/8) or addresses: the client is in one of them
	Repository string   // glob: ? and * match within a segment, ** matches anything
	MinSize    int64    // bytes: the blob is at least as large
	UserAgent  string   // regular expression (RE2), found anywhere in the header

	// Target is "cdn:<name>", "presign" or "direct". A rule with a CDN never
	// matches a key that is not under "data/", nor bytes that are unverified.
	Target string
}

// New makes a Policy. An error names every setting that is wrong by its
// configuration key (redirect.cdn.<name>.base_url) and what is wrong with it.
//
// It refuses a CDN on the service's own host or a subdomain of it, for clients
// would send it the Authorization header that is meant for this service; plain
// http where the service has https; a URL that would have to live longer than
// its signer can make it; and settings that would have no effect. Files and
// environment variables with keys are read here, once.
func New(c Config) (*Policy, error) {
	p := &Policy{expiry: c.Expiry, window: c.Window}
	if p.expiry == 0 {
		p.expiry = DefaultExpiry
	}
	if p.window == 0 {
		p.window = DefaultWindow
	}
	bad := problems{key: "redirect", list: new([]error)}
	bad.at("expiry").add(wholeSeconds(p.expiry))
	bad.at("window").add(wholeSeconds(p.window))
	p.proxies = newProxies(bad, c)
	var err error
	p.service, err = parseService(c.PublicURL)
	problems{key: "public_url", list: bad.list}.add(err)

	longest, maxPresign := p.expiry+p.window, cmp.Or(c.MaxPresign, weekOfStores)
	p.maxLife = longest
	p.cdns = make(map[string]*cdn)
	for _, name := range slices.Sorted(maps.Keys(c.CDNs)) {
		p.cdns[name] = newCDN(bad.at("cdn").at(name), c.CDNs[name], p.service, longest, maxPresign)
		p.maxLife = max(p.maxLife, p.cdns[name].maxLife)
	}
	for i, rc := range c.Rules {
		at := bad.at(fmt.Sprintf("rules[%d]", i))
		r := newRule(at, rc, p.cdns)
		if before := slices.IndexFunc(p.rules, func(before rule) bool { return before.covers(r) }); before >= 0 {
			at.addf("is never reached, for %s has no conditions", p.rules[before].name)
		}
		p.rules = append(p.rules, r)
	}
	byDefault := rule{name: "default", target: cmp.Or(c.Default, targetPresign)}
	byDefault.cdn = findTarget(bad.at("default"), byDefault.target, p.cdns)
	p.rules = append(p.rules, byDefault)
	if byDefault.cdn != nil {
		p.rules = append(p.rules, rule{name: "default", target: targetPresign})
	}

	p.presigns = p.needsPresign()
	if p.presigns && longest > maxPresign {
		bad.at("expiry").addf("%v and a window of %v make %v, and URLs that the store signs live %v at most",
			p.expiry, p.window, longest, maxPresign)
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// needsPresign says whether a read can end in a URL that the store signs.
func (p *Policy) needsPresign() bool {
	for _, r := range p.rules {
		if r.target == targetPresign {
			return true
		}
		if r.always() {
			break
		}
	}
	return false
}

func wholeSeconds(d time.Duration) error {
	if d < time.Second || d%time.Second != 0 {
		return fmt.Errorf("%v is not a whole number of seconds, one or more", d)
	}
	return nil
}
