package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/berthhq/berth/blobstore/access"
)

// errInvalid is the error of credentials that prove nothing. It never has a detail that
// the client could learn from.
var errInvalid = errors.New("the credentials are not valid")

// anonymous is the identity of a caller without credentials.
var anonymous = &identity{}

// Handler returns a handler that adds the caller to the context of each request before
// next handles it. It answers requests for [TokenPath] itself if this service issues
// tokens.
func (a *Auth) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.issuer != nil && r.URL.Path == TokenPath {
			a.serveToken(w, r)
			return
		}
		req := a.authenticate(r)
		if user := req.id.caller.User; user != "" {
			a.env.SetUser(r.Context(), user)
		}
		next.ServeHTTP(w, r.WithContext(withRequest(r.Context(), req)))
	})
}

// authenticate returns the caller of a request of the API.
func (a *Auth) authenticate(r *http.Request) *request {
	req := &request{id: anonymous, http: r}
	header := r.Header["Authorization"]
	if len(header) == 0 {
		return req
	}
	kind, token, _ := strings.Cut(header[0], " ")
	var id *identity
	var err error
	switch {
	case len(header) > 1:
		req.with, err = bearer, errInvalid
	case strings.EqualFold(kind, "Bearer"):
		req.with = bearer
		id, err = a.checkToken(r.Context(), strings.TrimSpace(token), true)
	case strings.EqualFold(kind, "Basic"):
		req.with = basic
		id, err = a.checkBasic(r)
	default:
		req.with, err = bearer, errInvalid
	}
	if req.err = err; err == nil {
		req.id = id
	}
	return req
}

// checkBasic returns the identity of a user name and password in a request. It returns
// errInvalid, access.ErrTooMany or access.ErrUnavailable.
func (a *Auth) checkBasic(r *http.Request) (*identity, error) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return nil, errInvalid
	}
	return a.checkPassword(r, user, password)
}

// checkPassword returns the identity of a user name and password. The password may be a
// token of an OpenID Connect issuer, with any user name.
func (a *Auth) checkPassword(r *http.Request, user, password string) (*identity, error) {
	if a.cfg.Has(OIDC) && strings.Count(password, ".") == 2 {
		id, err := a.checkToken(r.Context(), password, false)
		if !errors.Is(err, errInvalid) || a.logins == nil {
			return id, err
		}
	}
	if a.logins == nil {
		return nil, errInvalid
	}
	return a.logins.check(r.Context(), a.client(r), user, password)
}

// maxToken is the length in bytes of the longest token.
const maxToken = 16 << 10

// checkToken returns the identity that a token proves. It returns errInvalid, or
// access.ErrUnavailable. As a password, which is what asBearer is false for, only tokens
// of OpenID Connect issuers are good.
func (a *Auth) checkToken(ctx context.Context, token string, asBearer bool) (*identity, error) {
	if token == "" || len(token) > maxToken {
		return nil, errInvalid
	}
	key := a.callers.key(token)
	id, ok := a.callers.get(key)
	if !ok {
		v := a.tokens[unverifiedIssuer(token)]
		if v == nil {
			return nil, errInvalid
		}
		var err error
		if id, err = v.verify(ctx, token); err != nil {
			return nil, err
		}
		a.callers.add(key, id, id.expires)
	}
	if !asBearer && id.limited {
		return nil, errInvalid
	}
	return id, nil
}

// Authorize implements [access.Authorizer].
func (a *Auth) Authorize(ctx context.Context, need access.Need) (optional bool, err error) {
	req, ok := requestOf(ctx)
	switch {
	case !ok:
		return false, errors.New("auth: the request did not pass through Handler")
	case errors.Is(req.err, errInvalid):
		return false, a.unauthenticated(req, need, "invalid_token")
	case req.err != nil:
		return false, req.err
	case need.Required.IsZero() && need.Optional.IsZero():
		// Clients request /v2/ to learn how to log in, also if anonymous callers may
		// pull. They would not send their credentials otherwise.
		if req.with == noCredentials {
			return false, a.unauthenticated(req, need, "")
		}
		return false, nil
	case need.Required.IsZero():
		return a.mayList(req.id, need.Optional.Repository), nil
	}
	switch a.decide(req.id, need.Required) {
	case denied:
		if req.id.caller.User == "" {
			return false, a.unauthenticated(req, need, "insufficient_scope")
		}
		return false, access.ErrDenied
	case insufficient:
		return false, a.unauthenticated(req, need, "insufficient_scope")
	}
	return !need.Optional.IsZero() && a.decide(req.id, need.Optional) == allowed, nil
}

// verdict is the decision about an access.
type verdict int

const (
	denied       verdict = iota
	insufficient         // the caller may have it, with another token
	allowed
)

// decide decides whether an identity has an access.
func (a *Auth) decide(id *identity, want access.Access) verdict {
	v := allowed
	for _, action := range want.Actions {
		switch {
		case !a.byPolicy(id, want.Repository, action):
			return denied
		case !id.allows(want.Repository, action):
			v = insufficient
		}
	}
	return v
}

// byPolicy reports whether the policy allows an action. Without rules, the tokens of a
// token server decide alone, and users of the htpasswd file may do everything.
func (a *Auth) byPolicy(id *identity, repository string, action access.Action) bool {
	if a.policy != nil {
		return a.policy.Decide(id.caller, repository, action).Allowed
	}
	return id.foreign || id.caller.User != ""
}

// mayList reports whether a repository may stand in a list of repositories, or be the
// source of a mount. Nobody asks a token server for the access to each repository of a
// list, so a token for the catalog is enough where the policy decides about repositories.
func (a *Auth) mayList(id *identity, repository string) bool {
	if !a.byPolicy(id, repository, access.Pull) {
		return false
	}
	return id.allows(repository, access.Pull) || id.allows("", access.Catalog) && (a.policy != nil || !id.foreign)
}

// until returns how long an identity is valid from now, at most most.
func (id *identity) until(now time.Time, most time.Duration) time.Duration {
	if id.expires.IsZero() {
		return most
	}
	return min(most, id.expires.Sub(now))
}
