package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/cmd/berth/policy"
)

// TokenPath is the path at which this service issues tokens
// (https://distribution.github.io/distribution/spec/auth/token/,
// https://distribution.github.io/distribution/spec/auth/oauth/).
const TokenPath = "/auth/token" //nolint:gosec // a path, and no secret

const (
	// ownLeeway is by how much the clocks of replicas may differ.
	ownLeeway = 15 * time.Second

	maxForm     = 64 << 10 // bytes
	formTimeout = 15 * time.Second
	maxScopes   = 100 // in one token
)

// issuer issues tokens.
type issuer struct {
	name     string
	service  string
	lifetime time.Duration
	signer   jose.Signer
	keys     keySet
}

// ownIssuer returns the issuer of the tokens of a service.
func ownIssuer(service string) string { return "berth:" + service }

func newIssuer(cfg Config, seed []byte) (*issuer, error) {
	private := ed25519.NewKeyFromSeed(seed)
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("auth: the key that signs tokens is not one of Ed25519")
	}
	sum := sha256.Sum256(public)
	id := base64.RawURLEncoding.EncodeToString(sum[:12])
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", id)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: private}, options)
	return &issuer{
		name:     ownIssuer(cfg.Service),
		service:  cfg.Service,
		lifetime: cfg.TokenLifetime,
		signer:   signer,
		keys:     keySet{{id: id, algorithms: []jose.SignatureAlgorithm{jose.EdDSA}, key: public}},
	}, err
}

// ownClaims are the claims of a token that this service has issued. They carry the
// identity, so that the policy decides again about each request.
type ownClaims struct {
	jwt.Claims

	Access []grant             `json:"access"`
	Groups []string            `json:"groups,omitempty"`
	Caller map[string][]string `json:"claims,omitempty"`
}

// issue returns a token for an identity and access.
func (i *issuer) issue(id *identity, grants []grant, lifetime time.Duration, now time.Time) (string, error) {
	return jwt.Signed(i.signer).Claims(ownClaims{
		Claims: jwt.Claims{
			Issuer:    i.name,
			Subject:   id.caller.User,
			Audience:  jwt.Audience{i.service},
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			Expiry:    jwt.NewNumericDate(now.Add(lifetime)),
			ID:        rand.Text(),
		},
		Access: grants,
		Groups: id.caller.Groups,
		Caller: id.caller.Claims,
	}).Serialize()
}

// verifier returns the verifier of the tokens that issue returns.
func (i *issuer) verifier() *verifier {
	return &verifier{issuer: i.name, audience: i.service, leeway: ownLeeway, source: fixedKey{i.keys}, identify: func(t claims) (*identity, error) {
		caller := policy.Caller{User: t.Subject, Groups: t.values["groups"]}
		for name, values := range t.values {
			if name, ok := strings.CutPrefix(name, "claims."); ok {
				if caller.Claims == nil {
					caller.Claims = make(map[string][]string)
				}
				caller.Claims[name] = values
			}
		}
		return &identity{caller: caller, limited: true, scopes: scopesOf(t.Access)}, nil
	}}
}

// serveToken answers a request for a token. A client without credentials gets a token
// for what anonymous callers may do.
func (a *Auth) serveToken(w http.ResponseWriter, r *http.Request) {
	var id *identity
	var scopes []string
	var err error
	switch r.Method {
	case http.MethodGet:
		id, err = anonymous, nil
		if len(r.Header["Authorization"]) > 0 {
			id, err = a.checkBasic(r)
		}
		scopes = r.URL.Query()["scope"]
	case http.MethodPost:
		var ok bool
		if scopes, ok = readForm(w, r); !ok {
			return
		}
		id, err = a.checkPassword(r, r.PostForm.Get("username"), r.PostForm.Get("password"))
	default:
		w.Header().Set("Allow", "GET, POST")
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed: want GET, POST")
		return
	}
	switch {
	case errors.Is(err, access.ErrTooMany):
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "too many attempts to log in: try again later")
	case errors.Is(err, errInvalid):
		w.Header().Set("WWW-Authenticate", `Basic realm="`+a.cfg.Service+`"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "the user name or password is wrong")
	case err != nil:
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE", "temporarily unavailable: try again later")
	default:
		a.sendToken(w, r, id, scopes)
	}
}

// readForm reads the form of a request with a password. It returns its scopes, or
// answers the request and returns false.
func readForm(w http.ResponseWriter, r *http.Request) (scopes []string, ok bool) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/x-www-form-urlencoded" {
		refuse(w, http.StatusUnsupportedMediaType, "UNSUPPORTED", "want application/x-www-form-urlencoded")
		return nil, false
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(formTimeout)) // if it fails, the server's deadline applies
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, "UNSUPPORTED", "the form is malformed or too long")
		return nil, false
	}
	_ = control.SetReadDeadline(time.Time{}) // otherwise it would end the request's context
	if grant := r.PostForm.Get("grant_type"); grant != "password" {
		refuse(w, http.StatusBadRequest, "UNSUPPORTED", "unsupported grant_type: want password")
		return nil, false
	}
	return r.PostForm["scope"], true
}

// sendToken sends a token for the scopes that an identity may have.
func (a *Auth) sendToken(w http.ResponseWriter, r *http.Request, id *identity, scopes []string) {
	if id.caller.User != "" {
		a.env.SetUser(r.Context(), id.caller.User)
	}
	grants, ok := a.grants(id, scopes)
	if !ok {
		refuse(w, http.StatusBadRequest, "UNSUPPORTED", "too many scopes: want at most "+strconv.Itoa(maxScopes))
		return
	}
	now := time.Now()
	lifetime := id.until(now, a.issuer.lifetime).Truncate(time.Second)
	token, err := a.issuer.issue(a.named(id), grants, lifetime, now)
	if err != nil || len(token) > maxToken {
		a.env.Log.ErrorContext(r.Context(), "a token cannot be issued", "error", err, "size", len(token))
		refuse(w, http.StatusInternalServerError, "UNKNOWN", "the token cannot be issued")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"token":        token,
		"access_token": token,
		"expires_in":   int(lifetime / time.Second),
		"issued_at":    now.UTC().Format(time.RFC3339),
	})
}

// named returns an identity with those of its claims alone that the policy asks for, or
// tokens would become too long.
func (a *Auth) named(id *identity) *identity {
	short := *id
	short.caller.Claims = nil
	if a.policy == nil {
		return &short
	}
	for _, name := range a.policy.ClaimNames() {
		if values, ok := id.caller.Claims[name]; ok {
			if short.caller.Claims == nil {
				short.caller.Claims = make(map[string][]string)
			}
			short.caller.Claims[name] = values
		}
	}
	return &short
}

// grants returns the access of a token: of each scope, the actions that the policy
// allows. It ignores scopes that this service does not know. It returns false if there
// are too many.
func (a *Auth) grants(id *identity, scopes []string) (grants []grant, ok bool) {
	grants = []grant{}
	n := 0
	for _, list := range scopes {
		for scope := range strings.FieldsSeq(list) {
			if n++; n > maxScopes {
				return nil, false
			}
			if g := a.grant(id, scope); len(g.Actions) > 0 {
				grants = append(grants, g)
			}
		}
	}
	return grants, true
}

// grant returns the part of a scope, type:name:actions, that the policy allows.
func (a *Auth) grant(id *identity, scope string) grant {
	kind, rest, _ := strings.Cut(scope, ":")
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return grant{}
	}
	g := grant{Type: kind, Name: rest[:i]}
	wanted := strings.Split(rest[i+1:], ",")
	switch {
	case scope == catalogScope:
		if a.byPolicy(id, "", access.Catalog) {
			g.Actions = []string{"*"}
		}
	case kind == "repository" || strings.HasPrefix(kind, "repository("):
		g.Type = "repository"
		for _, action := range []access.Action{access.Pull, access.Push, access.Delete} {
			asked := slices.Contains(wanted, string(action)) || slices.Contains(wanted, "*")
			if asked && a.byPolicy(id, g.Name, action) {
				g.Actions = append(g.Actions, string(action))
			}
		}
	}
	return g
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, _ := json.Marshal(body) // strings and numbers can be encoded
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(data) // an error means that the client has disconnected
}
