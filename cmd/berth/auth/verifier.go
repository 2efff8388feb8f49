package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/berthhq/berth/blobstore/access"
)

// verifier verifies the tokens of one issuer.
type verifier struct {
	issuer   string
	audience string
	leeway   time.Duration // for clocks that differ
	source   keySource

	// identify returns the identity of a token, without its expiry. It returns
	// errInvalid for a token that proves nothing here.
	identify func(claims) (*identity, error)
}

// claims are the claims of a verified token.
type claims struct {
	jwt.Claims

	Access []grant `json:"access"`

	// values has every claim as text. Members of objects have names with a dot.
	values map[string][]string
}

// grant is an entry of the claim access
// (https://distribution.github.io/distribution/spec/auth/jwt/).
type grant struct {
	Type    string   `json:"type"`
	Class   string   `json:"class,omitempty"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// unverifiedIssuer returns the issuer that a token claims to have, or nothing if it is
// not a token.
func unverifiedIssuer(token string) string {
	t, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return ""
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := t.UnsafeClaimsWithoutVerification(&c); err != nil {
		return ""
	}
	return c.Issuer
}

// verify returns the identity that a token proves. It returns errInvalid for every
// defect of the token, and access.ErrUnavailable if the keys of the issuer are not known.
func (v *verifier) verify(ctx context.Context, raw string) (*identity, error) {
	t, err := jwt.ParseSigned(raw, algorithms)
	if err != nil || len(t.Headers) != 1 {
		return nil, errInvalid
	}
	head := t.Headers[0]
	if _, ok := head.ExtraHeaders["crit"]; ok { // no extension is supported
		return nil, errInvalid
	}
	c, err := v.verifySignature(ctx, t, head.KeyID, jose.SignatureAlgorithm(head.Algorithm))
	if err != nil {
		return nil, err
	}
	if c.Expiry == nil || c.Issuer != v.issuer {
		return nil, errInvalid
	}
	expected := jwt.Expected{Issuer: v.issuer, AnyAudience: jwt.Audience{v.audience}, Time: time.Now()}
	if err := c.ValidateWithLeeway(expected, v.leeway); err != nil {
		return nil, errInvalid
	}
	id, err := v.identify(c)
	if err != nil {
		return nil, err
	}
	id.expires = c.Expiry.Time().Add(v.leeway)
	return id, nil
}

// verifySignature returns the claims of a token if one of the issuer's keys has signed
// it. A key that is not known may be new.
func (v *verifier) verifySignature(ctx context.Context, t *jwt.JSONWebToken, id string, algorithm jose.SignatureAlgorithm) (claims, error) {
	known := v.source.keys()
	candidates := known.find(id, algorithm)
	if len(candidates) == 0 {
		if known = v.source.refresh(ctx); known == nil {
			return claims{}, fmt.Errorf("%w: the keys of %s are not known", access.ErrUnavailable, v.issuer)
		}
		candidates = known.find(id, algorithm)
	}
	for _, k := range candidates {
		var c claims
		var all map[string]any
		if err := t.Claims(k.key, &c, &all); err == nil {
			c.values = make(map[string][]string)
			addValues(c.values, "", all)
			return c, nil
		}
	}
	return claims{}, errInvalid
}

// addValues adds the texts in a value of JSON.
func addValues(to map[string][]string, name string, value any) {
	switch v := value.(type) {
	case string:
		to[name] = append(to[name], v)
	case bool:
		to[name] = append(to[name], strconv.FormatBool(v))
	case float64:
		to[name] = append(to[name], strconv.FormatFloat(v, 'f', -1, 64))
	case json.Number:
		to[name] = append(to[name], v.String())
	case []any:
		for _, item := range v {
			if _, nested := item.([]any); !nested {
				addValues(to, name, item)
			}
		}
	case map[string]any:
		for key, item := range v {
			addValues(to, joined(name, key), item)
		}
	}
}

func joined(name, key string) string {
	if name == "" {
		return key
	}
	return name + "." + key
}

// scopesOf returns the access that a token grants. An entry is for exactly the repository
// that it names.
func scopesOf(grants []grant) (scopes []access.Access) {
	for _, g := range grants {
		switch {
		case g.Type == "registry" && g.Name == "catalog" && slices.Contains(g.Actions, "*"):
			scopes = append(scopes, access.Access{Actions: []access.Action{access.Catalog}})
		case g.Type == "repository" && g.Name != "":
			s := access.Access{Repository: g.Name}
			for _, action := range []access.Action{access.Pull, access.Push, access.Delete} {
				if slices.Contains(g.Actions, string(action)) || slices.Contains(g.Actions, "*") {
					s.Actions = append(s.Actions, action)
				}
			}
			scopes = append(scopes, s)
		}
	}
	return scopes
}
