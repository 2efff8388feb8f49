package redirect

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/presign"
)

// CDN is one entry of redirect.cdn: how to sign URLs that a CDN accepts. Fields
// that its kind does not use must be empty.
type CDN struct {
	// Kind is plain, cloudfront, cloudcdn, mediacdn, frontdoor, cloudflare,
	// akamai or nginx.
	Kind string

	// BaseURL is the URL that keys of the bucket are appended to, including the
	// bucket's prefix.
	BaseURL string

	// Keys are the signing keys. The first one signs. Further keys are for
	// rotation; New reads them too, so that it finds a bad key at start.
	Keys []Key

	// Form is "canned" (the default) or "custom" for cloudfront, and "url" (the
	// default) or "prefix" for cloudcdn and mediacdn.
	Form string

	// Hash is "sha256" (the default) or "sha1", for cloudfront.
	Hash string

	// Param is the name of the query parameter with the token. It is "verify" by
	// default for cloudflare, and "__token__" for akamai.
	Param string

	// Ranges reports whether the CDN answers a request for several ranges with
	// these ranges, and a request for the last bytes with these bytes. No kind is
	// known to do so: most answer with the whole blob, nginx does unless its
	// cache holds all of the blob in one file, and some depend on the origin.
	// Without Ranges this service answers such requests.
	Ranges bool

	// Lifetime is the time for which the rule at the CDN accepts a token, for
	// cloudflare. It is at least redirect.expiry + redirect.window.
	Lifetime time.Duration
}

// life is the time during which a URL works.
type life struct {
	issued  time.Time // rounded down to the window
	expires time.Time
}

// link is a URL for a signer to sign.
type link struct {
	life
	url  string // without a query
	path string // of url

	// presign returns a URL of the same object, signed by the store.
	presign func() (drivers.Signed, error)
}

// signer is the signing scheme of one kind of CDN.
type signer interface {
	// sign returns the URL that the CDN accepts.
	sign(link) (drivers.Signed, error)
}

// cdn is a compiled [CDN].
type cdn struct {
	kind       string
	base, path string // neither ends in a slash
	signer     signer
	maxLife    time.Duration
	presigns   bool // whether the store signs its URLs
	ranges     bool // as in CDN
}

func (c *cdn) sign(key string, l life, presign func() (drivers.Signed, error)) (drivers.Signed, error) {
	return c.signer.sign(link{life: l, url: c.base + "/" + key, path: c.path + "/" + key, presign: presign})
}

// newCDN compiles c for URLs that live for at most longest.
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
		out.base = u.Scheme + "://" + presign.Authority(u) + out.path
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

// tidy reports whether cleaning the path would leave it unchanged.
func tidy(p string) bool { return p == "" || path.Clean(p) == p }

// kindSettings returns the settings of each kind, besides kind and base_url.
// "ids" is the id of each key.
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
// and missing keys. It reports whether the signer can be compiled.
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

// choose returns value, or the first of the allowed values if value is empty. It
// adds a problem to bad if value is not allowed.
func choose(bad problems, value string, allowed ...string) string {
	if value == "" {
		return allowed[0]
	}
	if !slices.Contains(allowed, value) {
		bad.addf("%q is not one of %s", value, strings.Join(allowed, ", "))
	}
	return value
}

// param returns the name of the query parameter.
func (c CDN) param(bad problems, byDefault string) string {
	if c.Param == "" {
		return byDefault
	}
	if !verbatim(c.Param, "") {
		bad.at("param").addf("%q has a character other than A-Z a-z 0-9 - . _", c.Param)
	}
	return c.Param
}

// cdnKey reports whether a CDN may serve the key: it is under "data/" and needs
// no escaping in a URL, so that signer, CDN and store agree on its name.
func cdnKey(key string) bool {
	return strings.HasPrefix(key, drivers.BulkPrefix) && verbatim(key, "/") && drivers.CheckKey(key) == nil
}

// verbatim reports whether s has only characters of also and unreserved
// characters of RFC 3986, which mean the same whether escaped or not. "~" is
// excluded, because it separates the fields of Akamai's tokens.
func verbatim(s, also string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		unreserved := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._", r)
		return !unreserved && !strings.ContainsRune(also, r)
	})
}
