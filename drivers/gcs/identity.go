package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/compute/metadata"
	"golang.org/x/sync/singleflight"
)

// identity is a provider of tokens. Its errors can be distinguished from the
// store's. Concurrent callers share one request, and wait for it no longer than
// their contexts last. The SDK's own cache sends one request after the other,
// and its callers wait for their turn even after their contexts have ended.
type identity struct {
	auth.TokenProvider
	name    string // of the credentials, for messages
	flights singleflight.Group
}

// Token returns a token of the credentials, or the context's error.
func (i *identity) Token(ctx context.Context) (*auth.Token, error) {
	flight := i.flights.DoChan("", func() (any, error) {
		return i.TokenProvider.Token(context.WithoutCancel(ctx))
	})
	select {
	case landed := <-flight:
		if landed.Err != nil {
			return nil, &identityError{i.name, landed.Err}
		}
		token, _ := landed.Val.(*auth.Token)
		return token, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// identityError is the reason why there is no token. It comes from a service
// account's token endpoint, the metadata server, the Security Token Service,
// IAM, or the source of a workload identity.
type identityError struct {
	name string // of the credentials
	err  error
}

// Error returns one line. The SDK's text contains the whole response, with the
// reason in it.
func (e *identityError) Error() string {
	why := strings.Join(strings.Fields(e.err.Error()), " ")
	// RFC 6749, section 5.2. A JWT is invalid if its time is wrong, or if its
	// key is no longer the account's.
	if refused, ok := errors.AsType[*auth.Error](e.err); ok && bytes.Contains(refused.Body, []byte("invalid_grant")) {
		return fmt.Sprintf("gcs.Config.CredentialsFile: %s are not accepted: the key was deleted, or the clock of this machine is wrong: %s", e.name, why)
	}
	return fmt.Sprintf("gcs.Config.CredentialsFile: there is no token for %s: %s", e.name, why)
}

// Unwrap returns the SDK's error, so that the SDK can decide whether to retry.
func (e *identityError) Unwrap() error { return e.err }

// passes reports whether a later request may get a token.
func (e *identityError) passes() bool {
	if code := e.status(); code != 0 {
		return passes(code)
	}
	return broken(e.err)
}

// status returns the HTTP status of the answer that had no token, or 0.
func (e *identityError) status() int {
	if refused, ok := errors.AsType[*auth.Error](e.err); ok && refused.Response != nil {
		return refused.Response.StatusCode
	}
	if refused, ok := errors.AsType[*metadata.Error](e.err); ok {
		return refused.Code
	}
	// For the Security Token Service and for impersonation, the SDK has the
	// status only in its text.
	var code int
	if _, err := fmt.Sscanf(e.err.Error(), "credentials: status code %d:", &code); err != nil {
		return 0
	}
	return code
}
