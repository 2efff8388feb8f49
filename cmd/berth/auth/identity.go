package auth

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/cmd/berth/policy"
)

// identity is what credentials prove.
type identity struct {
	caller  policy.Caller
	expires time.Time // zero for a password

	// limited is set for tokens that are valid only for the access in scopes.
	limited bool
	scopes  []access.Access
	foreign bool // a token server decided about scopes, rather than this service
}

// allows reports whether the credentials are good for an action on a repository. The
// repository is empty for the catalog.
func (id *identity) allows(repository string, action access.Action) bool {
	if !id.limited {
		return true
	}
	return slices.ContainsFunc(id.scopes, func(s access.Access) bool {
		return s.Repository == repository && slices.Contains(s.Actions, action)
	})
}

// request is the caller of a request in its context.
type request struct {
	id   *identity // of an anonymous caller if there are no credentials, or they are invalid
	with scheme    // of the credentials
	err  error     // why the credentials are not valid
	http *http.Request
}

// scheme is the scheme of credentials.
type scheme int

const (
	noCredentials scheme = iota
	basic
	bearer
)

type contextKey struct{}

func withRequest(ctx context.Context, r *request) context.Context {
	return context.WithValue(ctx, contextKey{}, r)
}

func requestOf(ctx context.Context) (*request, bool) {
	r, ok := ctx.Value(contextKey{}).(*request)
	return r, ok
}
