package redirect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berthhq/berth/drivers"
)

// Edge is one of the configured CDNs, for whoever proves that it keeps to what
// it may show. Unlike a [Policy] it makes URLs for any key of the bucket; those
// for keys that are not under "data/" must not work.
type Edge struct {
	Name string // in the configuration
	Kind string

	cdn    *cdn
	policy *Policy
}

// Edges are the configured CDNs, whether rules name them or not, by name.
func (p *Policy) Edges() []Edge {
	var edges []Edge
	for _, name := range slices.Sorted(maps.Keys(p.cdns)) {
		c := p.cdns[name]
		edges = append(edges, Edge{Name: name, Kind: c.kind, cdn: c, policy: p})
	}
	return edges
}

// URL is the key's at the CDN, without a signature.
func (e Edge) URL(key string) string { return e.cdn.base + "/" + key }

// Signs says whether the CDN takes signed URLs only.
func (e Edge) Signs() bool { return e.Kind != "plain" }

// Sign makes the URL that a client would be sent to for this key. Where the
// store signs, it signs a key under "data/" whatever the key is, for there is
// no signature of the store's for any other that a client could have.
func (e Edge) Sign(ctx context.Context, bucket Signer, key string) (drivers.Signed, error) {
	signed := key
	if !cdnKey(key) {
		signed = drivers.BulkPrefix + "check"
	}
	return e.sign(key, e.policy.life(time.Now()), func() (drivers.Signed, error) {
		return bucket.SignGet(ctx, signed, drivers.SignOptions{Expires: e.policy.expiry, Window: e.policy.window})
	})
}

// SignExpired makes a URL that a client could have been sent to, and that has
// expired by now. It reports errors.ErrUnsupported if the kind's URLs don't
// expire, or if it is the store that signs them.
func (e Edge) SignExpired(key string) (drivers.Signed, error) {
	if !e.Signs() {
		return drivers.Signed{}, fmt.Errorf("%w: a URL of kind %s does not expire", errors.ErrUnsupported, e.Kind)
	}
	return e.sign(key, e.policy.life(time.Now().Add(-2*e.policy.maxLife)), func() (drivers.Signed, error) {
		return drivers.Signed{}, fmt.Errorf("%w: the store signs nothing that has expired", errors.ErrUnsupported)
	})
}

func (e Edge) sign(key string, l life, presign func() (drivers.Signed, error)) (drivers.Signed, error) {
	signed, err := e.cdn.sign(key, l, presign)
	if err != nil {
		return drivers.Signed{}, fmt.Errorf("redirect.cdn.%s: %w", e.Name, err)
	}
	return signed, nil
}
