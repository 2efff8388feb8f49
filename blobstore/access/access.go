// Package access describes the permissions that a request needs, as plain data,
// and declares the interface that checks them. It defines no rules of its own and
// does not depend on HTTP.
package access

import (
	"context"
	"errors"
)

// Action is an operation on a repository, or on the catalog.
type Action string

// The actions on a repository. Their names are those of the distribution token
// protocol
// (https://distribution.github.io/distribution/spec/auth/scope/#resource-type).
const (
	Pull   Action = "pull"
	Push   Action = "push"
	Delete Action = "delete"
)

// Catalog is the action of listing repositories. It belongs to no repository.
const Catalog Action = "catalog"

// Access is permission for actions on one repository, or for [Catalog].
//
// An Access without a repository and actions is the permission to use the API at
// all, which clients test with GET /v2/ when they log in.
type Access struct {
	Repository string
	Actions    []Action
}

// IsZero reports whether a has neither a repository nor actions.
func (a Access) IsZero() bool { return a.Repository == "" && len(a.Actions) == 0 }

// Need is the access that one request needs.
type Need struct {
	// Required is the access without which the request is refused.
	Required Access

	// Optional, if not zero, is access that the request can do without:
	//
	//   - For a mount, to pull from the source repository. Without it the request
	//     starts an upload, as if the source did not have the blob.
	//   - For a HEAD of a blob or manifest, to push to the same repository. A caller
	//     who may push relies on what exists, so the HEAD keeps it from the garbage
	//     collector.
	//   - For an entry of a list of repositories, and for a mount without a source, to
	//     pull from one of the repositories. Required is zero then.
	Optional Access
}

// Errors of an [Authorizer].
var (
	// ErrDenied reports that a caller does not have the access that a request
	// requires.
	ErrDenied = errors.New("access denied")

	// ErrTooMany reports that there were too many attempts to log in. The client can
	// try again later.
	ErrTooMany = errors.New("too many attempts to log in")

	// ErrUnavailable reports that it could not be decided at the moment who the
	// caller is. The client can try again later.
	ErrUnavailable = errors.New("authentication is temporarily unavailable")
)

// UnauthenticatedError reports that a request is refused, and that the same request
// may be allowed with other credentials.
type UnauthenticatedError struct {
	Challenge string // value of WWW-Authenticate (RFC 9110, section 11.6.1)
	Reason    string // for the client
}

// Error returns the reason.
func (e *UnauthenticatedError) Error() string { return e.Reason }

// Authorizer decides what callers may do. It receives the context of the request,
// to which an authenticating handler has added the caller.
type Authorizer interface {
	// Authorize decides whether a request is allowed. It is called for every
	// well-formed request before any request to the store. It reports whether the
	// caller has need.Optional. It returns an [*UnauthenticatedError], or an error that
	// wraps ErrDenied, if the caller does not have need.Required, and any other error
	// if it could not decide. The request is refused in all these cases.
	//
	// A list of repositories, and a mount without a source, call it again for each
	// repository that the response could show or use, which can be thousands.
	Authorize(ctx context.Context, need Need) (optional bool, err error)
}
