package redirect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berthhq/berth/redirect/match"
)

// Defaults that [New] uses for fields of [Config] that are zero.
const (
	DefaultExpiry = 20 * time.Minute
	DefaultWindow = 5 * time.Minute
)

// weekOfStores is the longest lifetime of a URL that a store signs: SigV4 and
// GCS V4 signatures, and the keys of Azure's user delegation SAS, expire after
// a week.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
// https://cloud.google.com/storage/docs/access-control/signed-urls
// https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
const weekOfStores = 7 * 24 * time.Hour

const (
	targetDirect  = "direct"
	targetPresign = "presign"
	targetCDN     = "cdn:" // followed by its name
)

// Config configures a [Policy]. Its zero value redirects to URLs signed by the
// store if the store can sign, and serves directly otherwise.
type Config struct {
	// Expiry is the shortest time that a URL works, in whole seconds. Zero is
	// [DefaultExpiry].
	Expiry time.Duration

	// Window is the time that signing times are rounded down to a multiple of,
	// in whole seconds. Zero is [DefaultWindow]. One second has the effect of no
	// rounding.
	Window time.Duration

	// MaxPresign is the longest lifetime of a URL that the store signs. Zero is
	// a week, the most that any store allows.
	MaxPresign time.Duration

	// CDN holds the CDNs that rules can name, by name.
	CDN map[string]CDN

	// Rules are tried in order. The first rule that matches decides.
	Rules []Rule

	// Default is the target of reads that no rule matches: "presign", "direct"
	// or "cdn:<name>". Empty is "presign". If the default is a CDN, reads that a
	// CDN may not serve go to "presign".
	Default string

	// PublicURL is the URL that clients use for this service. New refuses
	// redirects to its host. It cannot check that if PublicURL is empty.
	PublicURL string

	// TrustedNetworks are the networks (10.0.0.0/8) or addresses of the proxies in
	// front of this service. See [match.Proxies].
	TrustedNetworks []string

	// TrustedProxies is an older form of TrustedNetworks. Only one of the two
	// can be set. It is the number of proxies in front of this service, each of
	// which appends the address of its caller to X-Forwarded-For.
	TrustedProxies int
}

// Rule sends the reads that meet all its conditions to a target. Every read
// meets an empty condition.
type Rule struct {
	From       []string // networks (10.0.0.0/8) or addresses; the client is in one of them
	Repository string   // glob: ? and * match within a segment, ** matches anything
	MinSize    int64    // bytes: the blob is at least as large
	UserAgent  string   // regular expression (RE2), matched anywhere in the header

	// Target is "cdn:<name>", "presign" or "direct". A rule with a CDN only
	// matches verified bytes under "data/".
	Target string
}

// New returns a Policy. Its error lists every wrong field by its path
// (redirect.Config.CDN["edge"].BaseURL), with the reason.
//
// New refuses
//   - a CDN on the service's own host or a subdomain of it, because clients would
//     send it the Authorization header that is meant for this service,
//   - plain http if the service has https,
//   - a lifetime that is longer than the signer allows,
//   - fields that would have no effect.
//
// It reads files and environment variables with keys once.
func New(c Config) (*Policy, error) {
	p := &Policy{expiry: c.Expiry, window: c.Window}
	if p.expiry == 0 {
		p.expiry = DefaultExpiry
	}
	if p.window == 0 {
		p.window = DefaultWindow
	}
	bad := problems{path: "redirect.Config", list: new([]error)}
	bad.field("Expiry").add(wholeSeconds(p.expiry))
	bad.field("Window").add(wholeSeconds(p.window))
	p.proxies = newProxies(bad, c)
	var err error
	p.service, err = parseService(c.PublicURL)
	bad.field("PublicURL").add(err)

	longest, maxPresign := p.expiry+p.window, cmp.Or(c.MaxPresign, weekOfStores)
	p.maxLife = longest
	p.cdns = make(map[string]*cdn)
	for _, name := range slices.Sorted(maps.Keys(c.CDN)) {
		p.cdns[name] = newCDN(bad.field("CDN").entry(name), c.CDN[name], p.service, longest, maxPresign)
		p.maxLife = max(p.maxLife, p.cdns[name].maxLife)
	}
	for i, rc := range c.Rules {
		at := bad.field("Rules").index(i)
		r := newRule(at, rc, p.cdns)
		if before := slices.IndexFunc(p.rules, func(before rule) bool { return before.covers(r) }); before >= 0 {
			at.addf("is never reached, because %s has no conditions", p.rules[before].name)
		}
		p.rules = append(p.rules, r)
	}
	byDefault := rule{name: "default", target: cmp.Or(c.Default, targetPresign)}
	byDefault.cdn = findTarget(bad.field("Default"), byDefault.target, p.cdns)
	p.rules = append(p.rules, byDefault)
	if byDefault.cdn != nil {
		p.rules = append(p.rules, rule{name: "default", target: targetPresign})
	}

	p.presigns = p.needsPresign()
	if p.presigns && longest > maxPresign {
		bad.field("Expiry").addf("%v and a window of %v make %v, and URLs that the store signs live %v at most",
			p.expiry, p.window, longest, maxPresign)
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// needsPresign reports whether a read can be redirected to a URL that the store
// signs.
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

func newProxies(bad problems, c Config) match.Proxies {
	p := match.Proxies{Count: c.TrustedProxies}
	at := bad.field("TrustedNetworks")
	for _, s := range c.TrustedNetworks {
		network, err := match.ParseNetwork(s)
		at.add(err)
		if err == nil && network.Bits() == 0 {
			at.addf("%q contains every address, so any client could claim to be another", s)
		}
		p.Networks = append(p.Networks, network)
	}
	switch {
	case p.Count < 0:
		bad.field("TrustedProxies").addf("%d is negative", p.Count)
	case p.Count > 0 && len(p.Networks) > 0:
		at.addf("redirect.Config.TrustedProxies, its older form, is set as well: set one of them")
	}
	return p
}
