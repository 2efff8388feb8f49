package redirect

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/berthhq/berth/redirect/match"
)

// rule is a compiled [Rule]. Conditions that are not set are nil or zero.
type rule struct {
	name, target string
	config       Rule
	from         match.Networks
	repository   match.Glob
	userAgent    *regexp.Regexp
	cdn          *cdn // nil if the target is not a CDN
}

func newRule(bad problems, c Rule, cdns map[string]*cdn) rule {
	r := rule{name: bad.path, target: c.Target, config: c}
	for _, s := range c.From {
		prefix, err := match.ParseNetwork(s)
		bad.field("From").add(err)
		r.from = append(r.from, prefix)
	}
	var err error
	if c.Repository != "" {
		r.repository, err = match.ParseGlob(c.Repository)
		bad.field("Repository").add(err)
	}
	if c.MinSize < 0 {
		bad.field("MinSize").addf("%d is negative", c.MinSize)
	}
	if c.UserAgent != "" {
		r.userAgent, err = regexp.Compile(c.UserAgent)
		bad.field("UserAgent").add(err)
	}
	r.cdn = findTarget(bad.field("Target"), c.Target, cdns)
	return r
}

// findTarget returns the CDN of a target, or nil for "presign" and "direct". It
// adds a problem to bad if the target does not exist.
func findTarget(bad problems, target string, cdns map[string]*cdn) *cdn {
	name, isCDN := strings.CutPrefix(target, targetCDN)
	switch {
	case isCDN && cdns[name] == nil:
		names := strings.Join(slices.Sorted(maps.Keys(cdns)), ", ")
		bad.addf("there is no redirect.Config.CDN[%q] (defined: %s)", name, cmp.Or(names, "none"))
	case !isCDN && target != targetDirect && target != targetPresign:
		bad.addf("%q is not one of presign, direct, cdn:<name>", target)
	}
	return cdns[name]
}

// always reports whether the rule matches every request.
func (r *rule) always() bool { return r.unconditional() && r.cdn == nil }

// redirects reports whether the rule's target answers req, rather than this
// service.
func (r *rule) redirects(req Request) bool {
	return r.target != targetDirect && (!req.Ranges || r.cdn != nil && r.cdn.ranges)
}

// presigns reports whether the store signs the rule's URLs.
func (r *rule) presigns() bool {
	return r.target == targetPresign || r.cdn != nil && r.cdn.presigns
}

// covers reports whether the rule has no conditions and so matches every request
// that next could match. All rules with a CDN match the same keys.
func (r *rule) covers(next rule) bool {
	return r.always() || r.unconditional() && next.cdn != nil
}

func (r *rule) unconditional() bool {
	c := r.config
	return len(c.From) == 0 && c.Repository == "" && c.MinSize == 0 && c.UserAgent == ""
}

// condition is a condition of a rule.
type condition int

const (
	none condition = iota
	byFrom
	byRepository
	byMinSize
	byUserAgent
	byTarget // a CDN only serves verified bytes under "data/"
)

// mismatch returns the first condition that does not hold, or none if the rule
// matches.
func (r *rule) mismatch(req Request) condition {
	switch {
	case r.from != nil && !r.from.Contains(req.Client):
		return byFrom
	case r.config.Repository != "" && !r.repository.Match(req.Repository):
		return byRepository
	case req.Size < r.config.MinSize:
		return byMinSize
	case r.userAgent != nil && !r.userAgent.MatchString(req.UserAgent):
		return byUserAgent
	case r.cdn != nil && (req.Unverified || !cdnKey(req.Key)):
		return byTarget
	}
	return none
}

// why returns an explanation of the condition that mismatch returned.
func (r *rule) why(c condition, req Request) string {
	switch c {
	case byFrom:
		if !req.Client.IsValid() {
			return "the client's address is unknown"
		}
		return fmt.Sprintf("client %s is in none of %s", req.Client, strings.Join(r.config.From, ", "))
	case byRepository:
		return fmt.Sprintf("repository %q does not match %q", req.Repository, r.config.Repository)
	case byMinSize:
		return fmt.Sprintf("size %d is less than %d", req.Size, r.config.MinSize)
	case byUserAgent:
		return fmt.Sprintf("User-Agent %q does not match %q", req.UserAgent, r.config.UserAgent)
	case byTarget:
		if req.Unverified {
			return "a CDN never serves bytes that this service has not hashed"
		}
		return fmt.Sprintf("a CDN never serves the key %q", req.Key)
	}
	if r.always() {
		return "has no conditions"
	}
	return "all conditions hold"
}
