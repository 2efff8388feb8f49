// Package redirect decides where a read of blob bytes is answered: by a
// redirect to a URL that the store signed, by a redirect to a CDN, or by this
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
// A CDN is shown keys under "data/" and nothing else, whatever the rules say:
// all other keys of the bucket are the service's own, or bytes that nobody
// hashed here. Its base URL is where the keys of the bucket begin, so it ends
// in the bucket's prefix if there is one. There is a file for each kind of CDN,
// which names the vendor's page that it was written from.
//
// # Time
//
// Signing times are rounded down to a window, so that every replica hands out
// the same URL within it and caches on the way can hit. A URL lives longer than
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
)

// Signer is the part of a [drivers.Bucket] that a [Policy] needs.
type Signer interface {
	SignGet(ctx context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error)
}

// Request is one read of a blob, as far as rules look at it.
type Request struct {
	Repository string
	Size       int64 // bytes
	UserAgent  string
	Client     netip.Addr // the zero Addr, if unknown, is in no network

	// Key is where the bytes are in the bucket. It is empty if they are inline
	// in the blob's record, and such a read is always served directly.
	Key string

	// Unverified says that nobody hashed these bytes here. They are never sent
	// by a CDN, whatever their key.
	Unverified bool

	// Ranges is whether the client asks for several ranges, or for the last
	// bytes. The answer is direct unless the target is a CDN that has
	// [CDN.Ranges].
	Ranges bool

	// ContentType, where it is not empty, overrides the header of the answer if
	// the store signs the URL. CDNs answer with the headers of the stored
	// object.
	ContentType string
}

// attachment has browsers save what they are sent to, by URLs that the store
// signs. They must not show what somebody pushed as a page of the store's host.
const attachment = "attachment"

// Decision says how to answer a read. Its String and LogValue leave out what
// makes the URL work, so it can be logged.
type Decision struct {
	// URL is where to send the client. It is empty if this service must serve
	// the bytes itself.
	URL string

	// Expires is when the URL stops working, and the latest moment until which
	// a cache may keep the redirect.
	Expires time.Time

	// Rule is the configuration key of the rule that decided, or "default" or
	// "inline".
	Rule string

	// Target is that rule's target. The URL is empty although it is not
	// "direct" if the store cannot sign.
	Target string
}

// Direct says whether this service must serve the bytes itself.
func (d Decision) Direct() bool { return d.URL == "" }

// String describes the decision, with its URL [Redacted].
func (d Decision) String() string {
	if d.Direct() {
		return fmt.Sprintf("%s: %s: served directly", d.Rule, d.Target)
	}
	return fmt.Sprintf("%s: %s: %s until %s", d.Rule, d.Target, Redacted(d.URL), d.Expires.UTC().Format(time.RFC3339))
}

// LogValue gives the decision to slog, with its URL [Redacted].
func (d Decision) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("rule", d.Rule), slog.String("target", d.Target)}
	if !d.Direct() {
		attrs = append(attrs, slog.String("url", Redacted(d.URL)), slog.Time("expires", d.Expires))
	}
	return slog.GroupValue(attrs...)
}

// Policy decides about reads. It is made by [New], never changes, and is safe
// for concurrent use.
type Policy struct {
	rules          []rule // the last has no conditions
	cdns           map[string]*cdn
	expiry, window time.Duration
	maxLife        time.Duration
	presigns       bool // whether some read can end in a URL signed by the store
	service        service
	proxies        proxies
}

// Decide says how to answer req. It makes no request of its own; a store's
// SignGet may.
//
// Where the store cannot sign the answer is direct, and no error. Any other
// error is that of the signer, or of a URL that had expired when it was made;
// the caller may serve the bytes directly.
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

// presign has the store sign a URL for as long as the configuration wants.
func (p *Policy) presign(ctx context.Context, bucket Signer, key, contentType string) (drivers.Signed, error) {
	return bucket.SignGet(ctx, key, drivers.SignOptions{
		Expires:            p.expiry,
		Window:             p.window,
		ContentType:        contentType,
		ContentDisposition: attachment,
	})
}

// Presign returns the URL of a key that the store signs for a client, with the
// configured lifetime. It reports errors.ErrUnsupported if the store can't sign,
// or if no rule sends clients to it.
func (p *Policy) Presign(ctx context.Context, bucket Signer, key string) (drivers.Signed, error) {
	if !p.presigns {
		return drivers.Signed{}, fmt.Errorf("no read is redirected to the store: %w", errors.ErrUnsupported)
	}
	return p.presign(ctx, bucket, key, "")
}

// Redirects reports whether the answer to req is a redirect, where the store
// signs or does not. Unlike Decide it signs nothing: Decide still finds the
// answer direct if the signer fails.
func (p *Policy) Redirects(req Request, signs bool) bool {
	r := p.rule(req)
	return r.redirects(req) && (signs || !r.presigns())
}

// MaxLife is how long after a decision its URL can still work: what may not be
// deleted sooner. URLs of a CDN of kind plain never stop working, and do not
// count.
func (p *Policy) MaxLife() time.Duration { return p.maxLife }

// ClientAddr returns the address of the client that made a request, behind the
// proxies that the configuration trusts. It is the zero Addr if they name none.
func (p *Policy) ClientAddr(r *http.Request) netip.Addr { return p.proxies.client(r) }

// Check signs a URL in bucket and reports what is unsafe about it, as New does
// for the base URLs of CDNs, and whether the CDNs can do with what the store
// signs. It is for the start of a service: only the driver knows the URLs that
// it signs.
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

// rule finds the rule that decides.
func (p *Policy) rule(req Request) *rule {
	if req.Key == "" {
		return &rule{name: "inline", target: targetDirect}
	}
	for i := range p.rules {
		if p.rules[i].mismatch(req) == "" {
			return &p.rules[i]
		}
	}
	return &p.rules[len(p.rules)-1]
}

func (p *Policy) life(now time.Time) life {
	issued := now.Truncate(p.window)
	return life{issued: issued, expires: issued.Add(p.window + p.expiry)}
}

// Step is what one rule says about a request.
type Step struct {
	Rule    string // as in Decision
	Target  string
	Matches bool
	Why     string // which condition does not hold, and the value it saw
}

// Explain walks the rules as Decide does and says why each matches or not. The
// last step is the rule that decides. It signs nothing.
func (p *Policy) Explain(req Request) []Step {
	if req.Key == "" {
		return []Step{{Rule: "inline", Target: targetDirect, Matches: true, Why: "the bytes are in the blob's record"}}
	}
	var steps []Step
	for i := range p.rules {
		r := &p.rules[i]
		key := r.mismatch(req)
		steps = append(steps, Step{Rule: r.name, Target: r.target, Matches: key == "", Why: r.why(key, req)})
		if key == "" {
			break
		}
	}
	return steps
}
