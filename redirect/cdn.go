package redirect

import (
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/presign"
)

// CDN configures how to sign URLs that a CDN accepts. Fields that its kind does
// not use must be empty.
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
	// cloudflare. It is at least [Config.Expiry] + [Config.Window].
	Lifetime time.Duration
}

// life is the time during which a URL works.
type life struct {
	issued  time.Time // rounded down to the window
	expires time.Time
}

// unsignedURL is a URL for a signer to sign.
type unsignedURL struct {
	life
	url  string // without a query
	path string // of url

	// presign returns a URL of the same object, signed by the store.
	presign func() (drivers.Signed, error)
}

// signer is the signing scheme of one kind of CDN.
type signer interface {
	// sign returns the URL that the CDN accepts.
	sign(unsignedURL) (drivers.Signed, error)
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
	return c.signer.sign(unsignedURL{life: l, url: c.base + "/" + key, path: c.path + "/" + key, presign: presign})
}

// newCDN compiles c for URLs that live for at most longest.
func newCDN(bad problems, c CDN, s service, longest, maxPresign time.Duration) *cdn {
	out := &cdn{kind: c.Kind, maxLife: longest, ranges: c.Ranges}
	out.base, out.path = parseBaseURL(bad.field("BaseURL"), c.BaseURL, s)
	if !c.checkFields(bad) {
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
			bad.field("Kind").addf("redirect.Config.Expiry and redirect.Config.Window add up to %v, and a SAS lives %v at most", longest, maxPresign)
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

// parseBaseURL returns the base URL of a CDN in the form that clients send, and
// its path. Neither ends in a slash.
func parseBaseURL(bad problems, rawURL string, s service) (base, path string) {
	u, err := parseURL(rawURL)
	switch {
	case err != nil:
		bad.add(err)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		bad.addf("has a user, query or fragment")
	case !verbatim(u.Host, ":[]") || !verbatim(u.EscapedPath(), "/"):
		bad.addf("has a character other than A-Z a-z 0-9 - . _ (a host can be written in punycode)")
	case !tidy(strings.TrimRight(u.Path, "/")):
		bad.addf("has //, /./ or /../ in its path, which clients and CDNs leave out")
	default:
		bad.add(s.checkURL(rawURL))
		path = strings.TrimRight(u.Path, "/")
		return u.Scheme + "://" + presign.Authority(u) + path, path
	}
	return "", ""
}

// tidy reports whether cleaning the path would leave it unchanged.
func tidy(p string) bool { return p == "" || path.Clean(p) == p }

// kindFields returns the fields of a CDN that each kind uses, besides Kind,
// BaseURL and Ranges. "ID" is the field of each key.
func kindFields() map[string][]string {
	return map[string][]string{
		"plain":      {},
		"cloudfront": {"Keys", "ID", "Form", "Hash"},
		"cloudcdn":   {"Keys", "ID", "Form"},
		"mediacdn":   {"Keys", "ID", "Form"},
		"frontdoor":  {},
		"cloudflare": {"Keys", "Param", "Lifetime"},
		"akamai":     {"Keys", "Param"},
		"nginx":      {"Keys"},
	}
}

// checkFields refuses an unknown kind, fields that the kind would ignore, and
// missing keys. It reports whether the signer can be compiled.
func (c CDN) checkFields(bad problems) bool {
	fields, ok := kindFields()[c.Kind]
	if !ok {
		bad.field("Kind").addf("%q is not one of %s", c.Kind, strings.Join(slices.Sorted(maps.Keys(kindFields())), ", "))
		return false
	}
	for _, s := range []struct {
		name string
		set  bool
	}{
		{"Keys", len(c.Keys) > 0},
		{"Form", c.Form != ""},
		{"Hash", c.Hash != ""},
		{"Param", c.Param != ""},
		{"Lifetime", c.Lifetime != 0},
	} {
		if s.set && !slices.Contains(fields, s.name) {
			bad.field(s.name).addf("a CDN of kind %s does not use it", c.Kind)
			return false
		}
	}
	if slices.Contains(fields, "Keys") && len(c.Keys) == 0 {
		bad.field("Keys").addf("a CDN of kind %s needs at least one", c.Kind)
		return false
	}
	for i, k := range c.Keys {
		bad.field("Keys").index(i).field("ID").add(checkKeyID(k.ID, slices.Contains(fields, "ID")))
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
		bad.field("Param").addf("%q has a character other than A-Z a-z 0-9 - . _", c.Param)
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
