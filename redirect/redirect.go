// Package redirect decides how a read of blob bytes is answered: with a
// redirect to a URL that the store signed, with a redirect to a CDN, or by this
// service itself.
//
// # Rules
//
// A [Policy] holds rules in order. The first whose conditions all hold decides.
// After the last rule, [Config.Default] does. The zero [Config] has no rules,
// and its default is to sign if the store can and to serve directly otherwise.
//
// # CDNs
//
// A CDN only gets URLs of keys under "data/". No rule can change that, because
// all other keys of the bucket are internal to the service, or name bytes that
// the service has not hashed. The keys of the bucket follow the CDN's base URL,
// so the base URL ends in the bucket's prefix if there is one. Each kind of CDN
// has a file, which links the vendor's page that it was written from.
//
// # Time
//
// Signing times are rounded down to a window, so that all replicas return the
// same URL within it and caches on the way can hit. A URL lives longer than
// [Config.Expiry], and at most Expiry + [Config.Window].
package redirect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/redirect/match"
)

// Signer is the part of a [drivers.Bucket] that a [Policy] needs.
type Signer interface {
	SignGet(ctx context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error)
}

// Request is one read of a blob, with the properties that rules test.
type Request struct {
	Repository string
	Size       int64 // bytes
	UserAgent  string
	Client     netip.Addr // the zero Addr, if unknown, is in no network

	// Key is where the bytes are in the bucket. It is empty if they are inline
	// in the blob's record, and such a read is always served directly.
	Key string

	// Unverified reports that the service has not hashed these bytes. A CDN
	// never serves them, under any key.
	Unverified bool

	// Ranges reports whether the client asks for several ranges, or for the last
	// bytes. The answer is direct unless the target is a CDN that has
	// [CDN.Ranges].
	Ranges bool

	// ContentType, if not empty, overrides the Content-Type of the answer to a
	// URL that the store signs. CDNs answer with the headers of the stored
	// object.
	ContentType string
}

// attachment is the Content-Disposition of URLs that the store signs. Browsers
// then save a blob: they must not show pushed bytes as a page of the store's
// host.
const attachment = "attachment"

// Decision is how to answer a read. It can be logged, because String and
// LogValue leave out the part of the URL that grants access.
type Decision struct {
	// URL is the target of the redirect. It is empty if this service must serve
	// the bytes itself.
	URL string

	// Expires is when the URL stops working, and the latest moment until which
	// a cache may keep the redirect.
	Expires time.Time

	// Rule is the rule that decided, such as "redirect.Config.Rules[0]", or
	// "default" or "inline".
	Rule string

	// Target is the target of that rule. If the store cannot sign, URL is empty
	// even if Target is not "direct".
	Target string
}

// Direct reports whether this service must serve the bytes itself.
func (d Decision) Direct() bool { return d.URL == "" }

// String returns a description of the decision, with its URL [Redacted].
func (d Decision) String() string {
	if d.Direct() {
		return fmt.Sprintf("%s: %s: served directly", d.Rule, d.Target)
	}
	return fmt.Sprintf("%s: %s: %s until %s", d.Rule, d.Target, Redacted(d.URL), d.Expires.UTC().Format(time.RFC3339))
}

// LogValue returns the decision as a group for slog, with its URL [Redacted].
func (d Decision) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("rule", d.Rule), slog.String("target", d.Target)}
	if !d.Direct() {
		attrs = append(attrs, slog.String("url", Redacted(d.URL)), slog.Time("expires", d.Expires))
	}
	return slog.GroupValue(attrs...)
}

// Policy is a compiled [Config]. [New] returns it. It never changes and is safe
// for concurrent use.
type Policy struct {
	rules          []rule // the last has no conditions
	cdns           map[string]*cdn
	expiry, window time.Duration
	maxLife        time.Duration // of a URL, over all targets
	presigns       bool          // whether some read can end in a URL signed by the store
	service        service
	proxies        match.Proxies
}

// MaxLife returns the longest time that a URL of this policy works, at the store or at
// a CDN. The store's data must not be deleted earlier than that after it was last named.
func (p *Policy) MaxLife() time.Duration { return p.maxLife }

// Decide returns how to answer req. It sends no request itself, but the SignGet
// of a store may.
//
// If the store cannot sign, Decide returns a direct decision and no error. It
// returns an error if the signer fails or if the signed URL has expired already;
// the caller can then serve the bytes directly.
func (p *Policy) Decide(ctx context.Context, bucket Signer, req Request) (Decision, error) {
	r := p.rule(req)
	d := Decision{Rule: r.name, Target: r.target}
	if !r.redirects(req) {
		return d, nil
	}

	presign := func() (drivers.Signed, error) { return p.presign(ctx, bucket, req.Key, req.ContentType) }
	now := time.Now()
	var signed drivers.Signed
	var err error
	if r.cdn != nil {
		signed, err = r.cdn.sign(req.Key, p.life(now), presign)
	} else {
		signed, err = presign()
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return d, nil
	case err != nil:
		return Decision{}, fmt.Errorf("%s: %s: %w", r.name, r.target, err)
	case !signed.Expires.After(now):
		return Decision{}, fmt.Errorf("%s: %s: the signed URL expired at %s, before it was made",
			r.name, r.target, signed.Expires.UTC().Format(time.RFC3339))
	}
	d.URL, d.Expires = signed.URL, signed.Expires
	return d, nil
}

// presign returns a URL signed by the store, with the configured lifetime.
func (p *Policy) presign(ctx context.Context, bucket Signer, key, contentType string) (drivers.Signed, error) {
	return bucket.SignGet(ctx, key, drivers.SignOptions{
		Expires:            p.expiry,
		Window:             p.window,
		ContentType:        contentType,
		ContentDisposition: attachment,
	})
}

// Presign returns a URL of key for a client, signed by the store with the
// configured lifetime. It returns errors.ErrUnsupported if the store cannot
// sign, or if no rule sends clients to the store.
func (p *Policy) Presign(ctx context.Context, bucket Signer, key string) (drivers.Signed, error) {
	if !p.presigns {
		return drivers.Signed{}, fmt.Errorf("no read is redirected to the store: %w", errors.ErrUnsupported)
	}
	return p.presign(ctx, bucket, key, "")
}

// Redirects reports whether the answer to req is a redirect; signs reports
// whether the store can sign URLs. Unlike Decide, it signs nothing: Decide can
// still return a direct decision or an error if the signer fails.
func (p *Policy) Redirects(req Request, signs bool) bool {
	r := p.rule(req)
	return r.redirects(req) && (signs || !r.presigns())
}

// ClientAddr returns the address of the client that sent r through the proxies
// that the configuration trusts. It returns the zero Addr if they name none.
func (p *Policy) ClientAddr(r *http.Request) netip.Addr { return p.proxies.Client(r) }

// Origin returns the scheme and host at which the client reached the first of the proxies
// that the configuration trusts. See [match.Proxies].
func (p *Policy) Origin(r *http.Request) string { return p.proxies.Origin(r) }

// Check signs a URL in bucket and returns an error if it is unsafe to redirect
// clients to, by the rules that New applies to the base URLs of CDNs, or if a CDN
// cannot use the store's signature. Call it when a service starts: New cannot
// check the URLs that a driver signs.
func (p *Policy) Check(ctx context.Context, bucket Signer) error {
	for _, e := range p.Edges() {
		if _, err := e.Sign(ctx, bucket, drivers.BulkPrefix+"check"); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	if !p.presigns {
		return nil
	}
	signed, err := bucket.SignGet(ctx, drivers.BulkPrefix+"check", drivers.SignOptions{Expires: p.expiry, Window: p.window})
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err == nil {
		err = p.service.checkURL(signed.URL)
	}
	if err != nil {
		return fmt.Errorf("redirect: presigned URLs: %w", err)
	}
	return nil
}

// rule returns the rule that decides about req.
func (p *Policy) rule(req Request) *rule {
	if req.Key == "" {
		return &rule{name: "inline", target: targetDirect}
	}
	for i := range p.rules {
		if p.rules[i].mismatch(req) == none {
			return &p.rules[i]
		}
	}
	return &p.rules[len(p.rules)-1]
}

func (p *Policy) life(now time.Time) life {
	issued := now.Truncate(p.window)
	return life{issued: issued, expires: issued.Add(p.window + p.expiry)}
}

// Step is the result of one rule for a request.
type Step struct {
	Rule    string // as in Decision
	Target  string
	Matches bool
	Why     string // the condition that does not hold, and the value that it tested
}

// Explain tries the rules in the order of Decide and returns why each one
// matches or not. The last step is the rule that decides. It signs nothing.
func (p *Policy) Explain(req Request) []Step {
	if req.Key == "" {
		return []Step{{Rule: "inline", Target: targetDirect, Matches: true, Why: "the bytes are in the blob's record"}}
	}
	var steps []Step
	for i := range p.rules {
		r := &p.rules[i]
		failed := r.mismatch(req)
		steps = append(steps, Step{Rule: r.name, Target: r.target, Matches: failed == none, Why: r.why(failed, req)})
		if failed == none {
			break
		}
	}
	return steps
}
