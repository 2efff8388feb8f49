// Package access describes, as data, what a request needs to be allowed, and
// declares the interface that decides whether it is. It has no rules of its own
// and does not depend on HTTP.
package access

import (
	"context"
	"errors"
)

// Action is something that a caller does with a repository.
type Action string

// The actions on a repository. Their names are those of the distribution token
// protocol
// (https://distribution.github.io/distribution/spec/auth/scope/#resource-type).
const (
	Pull   Action = "pull"
	Push   Action = "push"
	Delete Action = "delete"
)

// Access is permission for actions on one repository.
//
// An Access without a repository and actions is the permission to use the API at
// all, which clients test with GET /v2/ when they log in.
type Access struct {
	Repository string
	Actions    []Action
}

// IsZero reports whether a has neither a repository nor actions.
func (a Access) IsZero() bool { return a.Repository == "" && len(a.Actions) == 0 }

// Need is what one request needs.
type Need struct {
	// Required is the access without which the request is refused.
	Required Access

	// Optional, if not zero, is an access without which the request is served
	// as if what it protects did not exist. It is the right to pull from the
	// source of a mount: without it the client uploads the blob instead.
	Optional Access
}

// ErrDenied reports that a caller does not have the access that a request
// requires.
var ErrDenied = errors.New("access denied")

// Authorizer decides what callers may do. The context that it is passed is that
// of the request, in which an authenticating handler has put the caller.
type Authorizer interface {
	// Authorize decides about one request. It is called once for every
	// well-formed request, before the store is asked anything. It reports
	// whether the caller has need.Optional. It returns an error that wraps
	// ErrDenied if the caller does not have need.Required, and any other error
	// if it could not decide; the request is refused in both cases.
	Authorize(ctx context.Context, need Need) (optional bool, err error)
}
