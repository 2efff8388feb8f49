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

// Edge is one of the configured CDNs, for a check that it serves nothing but
// "data/". Unlike a [Policy], it returns URLs for any key of the bucket. URLs
// of keys outside "data/" must not work at the CDN.
type Edge struct {
	Name string // in the configuration
	Kind string

	cdn    *cdn
	policy *Policy
}

// Edges returns the configured CDNs sorted by name, including those that no rule
// names.
func (p *Policy) Edges() []Edge {
	var edges []Edge
	for _, name := range slices.Sorted(maps.Keys(p.cdns)) {
		c := p.cdns[name]
		edges = append(edges, Edge{Name: name, Kind: c.kind, cdn: c, policy: p})
	}
	return edges
}

// URL returns the URL of key at the CDN, without a signature.
func (e Edge) URL(key string) string { return e.cdn.base + "/" + key }

// Signs reports whether the CDN accepts signed URLs only.
func (e Edge) Signs() bool { return e.Kind != "plain" }

// Sign returns the URL that a client would be redirected to for key. If the store
// signs for this CDN and key is not under "data/", the signature is that of a
// key under "data/", because a client cannot get a signature of the store for
// any other key.
func (e Edge) Sign(ctx context.Context, bucket Signer, key string) (drivers.Signed, error) {
	signed := key
	if !cdnKey(key) {
		signed = drivers.BulkPrefix + "check"
	}
	return e.sign(key, e.policy.life(time.Now()), func() (drivers.Signed, error) {
		return bucket.SignGet(ctx, signed, drivers.SignOptions{Expires: e.policy.expiry, Window: e.policy.window})
	})
}

// SignExpired returns a URL that a client could have received and that has
// expired. It returns errors.ErrUnsupported if URLs of this kind do not expire,
// or if the store signs them.
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
		return drivers.Signed{}, fmt.Errorf("redirect.Config.CDN[%q]: %w", e.Name, err)
	}
	return signed, nil
}
