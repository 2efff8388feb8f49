// Package auth finds out who sends a request, and decides what the caller may do.
//
// Callers prove who they are with a password of an htpasswd file (kind htpasswd), with a
// token of a registry token server (token), or with a token of an OpenID Connect issuer
// (oidc). [Auth.Handler] adds the caller to the context of each request. It never refuses
// a request of the API itself: [Auth.Authorize] does, once the request is known to be
// well-formed, so that there is one place that decides, and each refusal names the access
// that was missing.
//
// With htpasswd and oidc, the service issues tokens itself, at [TokenPath]. They are
// signed with a key that all replicas share, expire within minutes, and are valid for the
// repositories and actions that the client asked for, as far as the policy allows them.
// A request needs both: a token with the access, and a policy that still allows it.
//
// Decisions depend on names alone, never on what the store has. So a repository that the
// caller may not read is answered as one that does not exist.
package auth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/cmd/berth/policy"
)

// Kinds of authentication.
const (
	None     = "none"
	HTPasswd = "htpasswd"
	Token    = "token"
	OIDC     = "oidc"
)

// Config configures authentication and authorization.
type Config struct {
	// Kind is the only kind of authentication. Kinds has several. At most one of the
	// two is set, and None stands alone.
	Kind  string
	Kinds []string

	// Service is the name of this service. Challenges have it, and tokens must have it
	// as an audience.
	Service string

	// TokenLifetime is how long the tokens are valid that this service issues.
	TokenLifetime time.Duration

	HTPasswd HTPasswdConfig
	Token    TokenConfig
	OIDC     []Provider
	Policy   policy.Config
}

// HTPasswdConfig is a file of users and passwords.
type HTPasswdConfig struct {
	File string // with lines user:hash, of bcrypt hashes
}

// DefaultService is the name of a service that has no other.
const DefaultService = "berth"

// Environment is what a service gives to authentication. Every field is required, except
// that SigningKey is needed only if [Config.IssuesTokens] returns true.
type Environment struct {
	Log *slog.Logger

	// SigningKey is the secret of 32 bytes that all replicas sign tokens with.
	SigningKey []byte

	// ClientAddr returns the address of the client behind proxies, or the zero Addr if
	// it is unknown.
	ClientAddr func(*http.Request) netip.Addr

	// BaseURL returns the URL at which the client of the request reaches this service,
	// without a slash at the end.
	BaseURL func(*http.Request) string

	// SetUser records the user of a request for the log.
	SetUser func(ctx context.Context, user string)
}

// Auth authenticates and authorizes callers. It is safe for concurrent use.
type Auth struct {
	cfg    Config
	env    Environment
	policy *policy.Policy // nil without rules

	logins  *logins              // nil without htpasswd
	issuer  *issuer              // nil if this service issues no tokens
	tokens  map[string]*verifier // by issuer
	callers *cache[*identity]    // of tokens
	realm   func(r *http.Request) string
}

var _ access.Authorizer = (*Auth)(nil)

// All returns the kinds of authentication, none of which is None.
func (c *Config) All() []string {
	kinds := c.Kinds
	if c.Kind != "" {
		kinds = []string{c.Kind}
	}
	return slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return kind == None })
}

// IsSet reports whether a kind was chosen, which may be None.
func (c *Config) IsSet() bool { return c.Kind != "" || len(c.Kinds) > 0 }

// Has reports whether callers can use this kind of authentication.
func (c *Config) Has(kind string) bool { return slices.Contains(c.All(), kind) }

// IssuesTokens reports whether the service issues tokens itself.
func (c *Config) IssuesTokens() bool { return c.Has(HTPasswd) || c.Has(OIDC) }

// Validate returns an error that names the field of each invalid value. It reads no
// files.
func (c *Config) Validate() error {
	problems := c.validateKinds()
	bad := func(field, format string, args ...any) {
		problems = append(problems, fmt.Errorf("auth.Config."+field+": "+format, args...))
	}
	if strings.ContainsFunc(c.Service, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		bad("Service", "%q: want printable ASCII without blanks, quotation marks and backslashes", c.Service)
	}
	if c.Has(HTPasswd) && c.HTPasswd.File == "" {
		bad("HTPasswd.File", "required with htpasswd")
	}
	if c.Has(Token) {
		problems = append(problems, c.Token.validate(c))
	}
	if c.Has(OIDC) {
		problems = append(problems, c.validateProviders())
	}
	if len(c.All()) == 0 && len(c.Policy.Rules) > 0 {
		problems = append(problems, errors.New("policy.Config.Rules: without authentication every client may do everything: set auth.Config.Kind to htpasswd, token or oidc"))
	}
	_, err := policy.New(c.Policy)
	return errors.Join(append(problems, err)...)
}

func (c *Config) validateKinds() (problems []error) {
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("auth.Config.Kinds: "+format, args...))
	}
	if c.Kind != "" && len(c.Kinds) > 0 {
		bad("set auth.Config.Kind or auth.Config.Kinds, not both")
	}
	for i, kind := range c.Kinds {
		switch {
		case !slices.Contains([]string{None, HTPasswd, Token, OIDC}, kind):
			bad("%q: want htpasswd, token or oidc", kind)
		case kind == None && len(c.Kinds) > 1:
			bad("none is for every client without credentials: want it alone")
		case slices.Contains(c.Kinds[:i], kind):
			bad("%s stands there twice", kind)
		}
	}
	return problems
}

// New reads the files of cfg, and keeps reading them when they change until ctx ends, as
// well as the keys of issuers. It returns nil if there is no authentication. An issuer
// that cannot be reached is no error: until it can, its tokens are answered with 503.
func New(ctx context.Context, cfg Config, env Environment) (*Auth, error) {
	if err := cfg.Validate(); err != nil || len(cfg.All()) == 0 {
		return nil, err
	}
	if cfg.Service == "" {
		cfg.Service = DefaultService
	}
	a := &Auth{cfg: cfg, env: env, tokens: make(map[string]*verifier)}
	a.realm = func(r *http.Request) string { return env.BaseURL(r) + TokenPath }
	var err error
	if len(cfg.Policy.Rules) > 0 {
		if a.policy, err = policy.New(cfg.Policy); err != nil {
			return nil, err
		}
	}
	if a.callers, err = newCache[*identity](maxTokens); err != nil {
		return nil, err
	}
	if cfg.Has(HTPasswd) {
		if a.logins, err = newLogins(ctx, cfg.HTPasswd.File, env.Log); err != nil {
			return nil, err
		}
	}
	if cfg.IssuesTokens() {
		if len(env.SigningKey) != ed25519.SeedSize {
			return nil, fmt.Errorf("auth: the key that signs tokens has %d bytes, want %d", len(env.SigningKey), ed25519.SeedSize)
		}
		if a.issuer, err = newIssuer(cfg, env.SigningKey); err != nil {
			return nil, err
		}
		a.tokens[a.issuer.name] = a.issuer.verifier()
	}
	if err := a.openIssuers(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// openIssuers adds the verifiers of the tokens of other issuers.
func (a *Auth) openIssuers(ctx context.Context) error {
	if a.cfg.Has(Token) {
		v, err := newTokenVerifier(ctx, a.cfg, a.env.Log)
		if err != nil {
			return err
		}
		a.tokens[a.cfg.Token.Issuer] = v
		a.realm = func(*http.Request) string { return a.cfg.Token.Realm }
	}
	if a.cfg.Has(OIDC) {
		for i := range a.cfg.OIDC {
			v, err := newProviderVerifier(ctx, fmt.Sprintf("auth.Config.OIDC[%d]", i), a.cfg.OIDC[i], a.env.Log)
			if err != nil {
				return err
			}
			a.tokens[a.cfg.OIDC[i].Issuer] = v
		}
	}
	return nil
}
