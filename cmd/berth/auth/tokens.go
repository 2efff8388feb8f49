package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/berthhq/berth/cmd/berth/policy"
)

// TokenConfig is a registry token server, such as docker_auth, or the one of Harbor or
// GitLab.
type TokenConfig struct {
	Realm  string // URL at which clients request tokens
	Issuer string // claim iss of the tokens

	// KeysFile has the keys that sign tokens: a JSON Web Key Set, or certificates or
	// public keys in PEM. KeysURL has a JSON Web Key Set. One of them is set.
	KeysFile string
	KeysURL  string
	CAFile   string // certificate authorities to trust for KeysURL, besides the system's

	Leeway time.Duration // by which clocks may differ

	// GroupsClaim is the claim that has the groups of the user. Empty is none.
	GroupsClaim string
}

func (c *TokenConfig) validate(all *Config) error {
	var problems []error
	bad := func(field, format string, args ...any) {
		problems = append(problems, fmt.Errorf("auth.Config.Token."+field+": "+format, args...))
	}
	if u, err := url.Parse(c.Realm); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		bad("Realm", "%q: want the URL at which clients request tokens", c.Realm)
	}
	if c.Issuer == "" {
		bad("Issuer", "required with token")
	}
	if all.IssuesTokens() && c.Issuer == ownIssuer(all.Service) {
		bad("Issuer", "%q is the issuer of this service: want another", c.Issuer)
	}
	if (c.KeysFile == "") == (c.KeysURL == "") {
		bad("KeysFile", "set auth.Config.Token.KeysFile or auth.Config.Token.KeysURL")
	}
	if c.KeysURL != "" {
		u, err := url.Parse(c.KeysURL)
		if err == nil {
			err = checkURL(u)
		}
		if err != nil {
			bad("KeysURL", "%v", err)
		}
	}
	if c.Leeway < 0 {
		bad("Leeway", "%v is negative", c.Leeway)
	}
	return errors.Join(problems...)
}

// newTokenVerifier returns the verifier of the tokens of a token server.
func newTokenVerifier(ctx context.Context, cfg Config, log *slog.Logger) (*verifier, error) {
	c := cfg.Token
	v := &verifier{issuer: c.Issuer, audience: cfg.Service, leeway: c.Leeway, identify: func(t claims) (*identity, error) {
		id := &identity{
			caller:  policy.Caller{User: t.Subject, Claims: t.values},
			limited: true,
			scopes:  scopesOf(t.Access),
			foreign: true,
		}
		if c.GroupsClaim != "" {
			id.caller.Groups = t.values[c.GroupsClaim]
		}
		return id, nil
	}}
	var err error
	if c.KeysFile != "" {
		v.source, err = openKeyFile(ctx, "auth.Config.Token.KeysFile", c.KeysFile, log)
		return v, err
	}
	v.source, err = openRemoteKeys(ctx, &remoteKeys{name: c.Issuer, url: c.KeysURL, log: log}, "auth.Config.Token.CAFile", c.CAFile)
	return v, err
}
