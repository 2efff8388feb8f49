package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/cmd/berth/policy"
)

// Provider is an issuer of OpenID Connect tokens, such as GitHub Actions, GitLab, or the
// API server of Kubernetes. Its discovery document names its keys.
type Provider struct {
	Issuer   string // claim iss of the tokens
	Audience string // that tokens must have

	// User is the name of the user. {claim} stands for the value of a claim, which
	// every token must have. Empty is {sub}.
	User string

	// Groups are the groups of the user, in the same form. A claim with several
	// values makes several groups, and a claim that the token does not have makes none.
	Groups []string

	// Claims are what tokens must have: name=value, in which value may be a glob.
	Claims []string

	KeysFile string // JSON Web Key Set, or PEM, instead of discovery
	CAFile   string // certificate authorities to trust for discovery, besides the system's
}

// providerLeeway is by how much the clock of a provider may differ.
const providerLeeway = time.Minute

var placeholder = regexp.MustCompile(`\{[^{}]+\}`)

func (c *Config) validateProviders() error {
	var problems []error
	if len(c.OIDC) == 0 {
		problems = append(problems, errors.New("auth.Config.OIDC: want an issuer"))
	}
	if len(c.Policy.Rules) == 0 {
		problems = append(problems, errors.New("policy.Config.Rules: required with oidc: many issuers issue tokens to everyone"))
	}
	for i, p := range c.OIDC {
		taken := c.Has(Token) && c.Token.Issuer == p.Issuer ||
			slices.ContainsFunc(c.OIDC[:i], func(other Provider) bool { return other.Issuer == p.Issuer })
		problems = append(problems, p.validate(fmt.Sprintf("auth.Config.OIDC[%d]", i), taken))
	}
	return errors.Join(problems...)
}

// validate returns the problems of the provider at a field. taken reports whether its
// tokens have another entry already.
func (p *Provider) validate(at string, taken bool) error {
	var problems []error
	bad := func(field, format string, args ...any) {
		problems = append(problems, fmt.Errorf(at+"."+field+": "+format, args...))
	}
	u, err := url.Parse(p.Issuer)
	if err == nil {
		err = checkURL(u)
	}
	switch {
	case err != nil:
		bad("Issuer", "%v", err)
	case taken:
		bad("Issuer", "%s: the tokens of this issuer have another entry already", p.Issuer)
	}
	if p.Audience == "" {
		bad("Audience", "required: the audience of tokens for this service, such as its URL")
	}
	if !isTemplate(p.User, math.MaxInt) {
		bad("User", "%q: want {claim} for the value of a claim", p.User)
	}
	for _, g := range p.Groups {
		if !isTemplate(g, 1) {
			bad("Groups", "%q: want at most one {claim}", g)
		}
	}
	if _, err := newRequired(p.Claims); err != nil {
		bad("Claims", "%v", err)
	}
	return errors.Join(problems...)
}

// isTemplate reports whether s has only complete placeholders, and no more than most.
func isTemplate(s string, most int) bool {
	n := len(placeholder.FindAllString(s, -1))
	return n <= most && strings.Count(s, "{") == n && strings.Count(s, "}") == n
}

// newRequired returns a policy that allows to pull if a token has these claims.
func newRequired(claims []string) (*policy.Policy, error) {
	if len(claims) == 0 {
		return policy.New(policy.Config{Rules: []policy.Rule{{Anonymous: true, Actions: []string{"pull"}}}})
	}
	for _, c := range claims {
		if _, _, err := policy.ParseClaim(c); err != nil {
			return nil, err
		}
	}
	return policy.New(policy.Config{Rules: []policy.Rule{{Claims: claims, Actions: []string{"pull"}}}})
}

// newProviderVerifier returns the verifier of the tokens of a provider. field names the
// provider.
func newProviderVerifier(ctx context.Context, field string, p Provider, log *slog.Logger) (*verifier, error) {
	required, err := newRequired(p.Claims)
	if err != nil {
		return nil, err
	}
	v := &verifier{issuer: p.Issuer, audience: p.Audience, leeway: providerLeeway, identify: func(t claims) (*identity, error) {
		caller := policy.Caller{User: p.user(t.values), Groups: p.groups(t.values), Claims: t.values}
		if caller.User == "" || !required.Decide(caller, "", "pull").Allowed {
			return nil, errInvalid
		}
		return &identity{caller: caller}, nil
	}}
	if p.KeysFile != "" {
		v.source, err = openKeyFile(ctx, field+".KeysFile", p.KeysFile, log)
		return v, err
	}
	v.source, err = openRemoteKeys(ctx, &remoteKeys{
		name:   p.Issuer,
		url:    strings.TrimSuffix(p.Issuer, "/") + "/.well-known/openid-configuration",
		issuer: p.Issuer,
		log:    log,
	}, field+".CAFile", p.CAFile)
	return v, err
}

// user returns the name of the user, or nothing if a claim of it is missing.
func (p *Provider) user(values map[string][]string) string {
	template := p.User
	if template == "" {
		template = "{sub}"
	}
	complete := true
	name := placeholder.ReplaceAllStringFunc(template, func(s string) string {
		value := values[strings.Trim(s, "{}")]
		if len(value) != 1 || value[0] == "" {
			complete = false
			return ""
		}
		return value[0]
	})
	if !complete {
		return ""
	}
	return name
}

func (p *Provider) groups(values map[string][]string) (all []string) {
	for _, template := range p.Groups {
		at := placeholder.FindStringIndex(template)
		if at == nil {
			all = append(all, template)
			continue
		}
		for _, value := range values[template[at[0]+1:at[1]-1]] {
			all = append(all, template[:at[0]]+value+template[at[1]:])
		}
	}
	return all
}
