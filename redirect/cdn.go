package redirect

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
)

// CDN is one entry of redirect.cdn: how to make URLs that a CDN accepts. What a
// kind has no use for must be empty.
type CDN struct {
	// Kind is plain, cloudfront, cloudcdn, mediacdn, frontdoor, cloudflare,
	// akamai or nginx.
	Kind string

	// BaseURL is where the keys of the bucket begin at the CDN, its prefix
	// included.
	BaseURL string

	// Keys sign URLs: the first one does. The others are there to be rotated
	// in, and are read so that a bad one is found at start.
	Keys []Key

	// Form is "canned" (the default) or "custom" for cloudfront, and "url" (the
	// default) or "prefix" for cloudcdn and mediacdn.
	Form string

	// Hash is "sha256" (the default) or "sha1", for cloudfront.
	Hash string

	// Param is the name of the query parameter with the token: "verify" by
	// default for cloudflare, "__token__" for akamai.
	Param string

	// Ranges is whether the CDN answers a request for several ranges with these
	// ranges, and one for the last bytes with these bytes. It is known of no
	// kind: most answer with the whole blob, nginx does unless all of it is one
	// file of its cache, and some depend on the origin. Without it such requests
	// are answered by this service.
	Ranges bool

	// Lifetime is the time for which the rule at the CDN accepts a token, for
	// cloudflare: at least redirect.expiry + redirect.window.
	Lifetime time.Duration
}

// life is the time for which a URL is to be good.
type life struct {
	issued  time.Time // rounded down to the window
	expires time.Time
}

// link is what a signer signs.
type link struct {
	life
	url  string // without a query
	path string // of url

	// presign has the store sign a URL for the same object.
	presign func() (drivers.Signed, error)
}

// signer makes the URL that a CDN accepts.
type signer interface {
	sign(link) (drivers.Signed, error)
}

// cdn is a compiled [CDN].
type cdn struct {
	kind       string
	base, path string // neither ends in a slash
	signer     signer
	maxLife    time.Duration
	presigns   bool // its URLs are signed by the store
	ranges     bool // as in CDN
}

func (c *cdn) sign(key string, l life, presign func() (drivers.Signed, error)) (drivers.Signed, error) {
	return c.signer.sign(link{life: l, url: c.base + "/" + key, path: c.path + "/" + key, presign: presign})
}

// newCDN compiles c for URLs that live for longest, or less.
func newCDN(bad problems, c CDN, s service, longest, maxPresign time.Duration) *cdn {
	out := &cdn{kind: c.Kind, maxLife: longest, ranges: c.Ranges}
	switch u, err := parseURL(c.BaseURL); {
	case err != nil:
		bad.at("base_url").add(err)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		bad.at("base_url").addf("has a user, query or fragment")
	case !verbatim(u.Host, ":[]") || !verbatim(u.EscapedPath(), "/"):
		bad.at("base_url").addf("has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)")
	case !tidy(strings.TrimRight(u.Path, "/")):
		bad.at("base_url").addf("has //, /./ or /../ in its path, which clients and CDNs leave out")
	default:
		out.path = strings.TrimRight(u.Path, "/")
		out.base = u.Scheme + "://" + drivers.Authority(u) + out.path
		bad.at("base_url").add(s.checkURL(c.BaseURL))
	}
	if !c.checkSettings(bad) {
		return out
	}
	switch c.Kind {
	case "plain":
		out.signer = plain{}
	case "cloudfront":
		out.signer = newCloudFront(bad, c)
	case "cloudcdn":
		out.signer = newCloudCDN(bad, c)
	case "mediacdn":
		out.signer = newMediaCDN(bad, c)
	case "frontdoor":
		out.signer, out.presigns = frontDoor{}, true
		if longest > maxPresign {
			bad.at("kind").addf("redirect.expiry and redirect.window make %v, and a SAS lives %v at most", longest, maxPresign)
		}
	case "cloudflare":
		out.signer = newCloudflare(bad, c, longest)
		out.maxLife = c.Lifetime
	case "akamai":
		out.signer = newAkamai(bad, c)
	case "nginx":
		out.signer = newNginx(bad, c)
	}
	return out
}

// tidy says whether all segments of the path stay in it.
func tidy(p string) bool { return p == "" || path.Clean(p) == p }

// kindSettings gives the settings of each kind, besides kind and base_url.
// "ids" stands for the id of each key.
func kindSettings() map[string][]string {
	return map[string][]string{
		"plain":      {},
		"cloudfront": {"keys", "ids", "form", "hash"},
		"cloudcdn":   {"keys", "ids", "form"},
		"mediacdn":   {"keys", "ids", "form"},
		"frontdoor":  {},
		"cloudflare": {"keys", "param", "lifetime"},
		"akamai":     {"keys", "param"},
		"nginx":      {"keys"},
	}
}

// checkSettings refuses an unknown kind, settings that the kind would ignore,
// and missing keys.
func (c CDN) checkSettings(bad problems) bool {
	settings, ok := kindSettings()[c.Kind]
	if !ok {
		bad.at("kind").addf("%q is not one of %s", c.Kind, strings.Join(slices.Sorted(maps.Keys(kindSettings())), ", "))
		return false
	}
	for _, s := range []struct {
		name string
		set  bool
	}{
		{"keys", len(c.Keys) > 0},
		{"form", c.Form != ""},
		{"hash", c.Hash != ""},
		{"param", c.Param != ""},
		{"lifetime", c.Lifetime != 0},
	} {
		if s.set && !slices.Contains(settings, s.name) {
			bad.at(s.name).addf("a CDN of kind %s has no such setting", c.Kind)
			return false
		}
	}
	if slices.Contains(settings, "keys") && len(c.Keys) == 0 {
		bad.at("keys").addf("a CDN of kind %s needs at least one", c.Kind)
		return false
	}
	for i, k := range c.Keys {
		bad.at(fmt.Sprintf("keys[%d].id", i)).add(checkKeyID(k.ID, slices.Contains(settings, "ids")))
	}
	return true
}

// choose returns the value of a setting with a fixed set of them, the first of
// which is the default.
func choose(bad problems, value string, allowed ...string) string {
	if value == "" {
		return allowed[0]
	}
	if !slices.Contains(allowed, value) {
		bad.addf("%q is not one of %s", value, strings.Join(allowed, ", "))
	}
	return value
}

// param is the name of the query parameter.
func (c CDN) param(bad problems, byDefault string) string {
	if c.Param == "" {
		return byDefault
	}
	if !verbatim(c.Param, "") {
		bad.at("param").addf("%q has a character other than A-Z a-z 0-9 - . _", c.Param)
	}
	return c.Param
}

// cdnKey says whether a CDN may be shown the key: it is under "data/", and
// stands in a URL as it is, so that signer, CDN and store agree on its name.
func cdnKey(key string) bool {
	return strings.HasPrefix(key, drivers.BulkPrefix) && verbatim(key, "/") && drivers.CheckKey(key) == nil
}

// verbatim says whether s is made of unreserved characters of RFC 3986, which
// mean the same escaped or not, and those of also. "~" is not among them, for
// it parts the fields of Akamai's tokens.
func verbatim(s, also string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		unreserved := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._", r)
		return !unreserved && !strings.ContainsRune(also, r)
	})
}
