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

// identity gives the tokens of some credentials, with errors that can be told
// from the store's. All that want one at a time share what comes of asking, and
// wait for it no longer than their requests last: the SDK's own cache has them
// ask one after the other, and wait for their turn whatever happens.
type identity struct {
	auth.TokenProvider
	who     string // for messages
	flights singleflight.Group
}

// Token is the credentials'.
func (i *identity) Token(ctx context.Context) (*auth.Token, error) {
	flight := i.flights.DoChan("", func() (any, error) {
		return i.TokenProvider.Token(context.WithoutCancel(ctx))
	})
	select {
	case landed := <-flight:
		if landed.Err != nil {
			return nil, &identityError{i.who, landed.Err}
		}
		token, _ := landed.Val.(*auth.Token)
		return token, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// identityError says why there is no token: by a service account's token
// endpoint, the metadata server, the Security Token Service, IAM, or whatever a
// workload identity begins with.
type identityError struct {
	who string
	err error
}

// Error is on one line. The SDK's has the whole answer, in which the reason is.
func (e *identityError) Error() string {
	why := strings.Join(strings.Fields(e.err.Error()), " ")
	// RFC 6749, section 5.2. A JWT of another time is invalid, and so is one by
	// a key that is not the account's any more.
	if refused, ok := errors.AsType[*auth.Error](e.err); ok && bytes.Contains(refused.Body, []byte("invalid_grant")) {
		return fmt.Sprintf("storage.gcs.credentials_file: %s are not accepted: the key was deleted, or the clock of this machine is wrong: %s", e.who, why)
	}
	return fmt.Sprintf("storage.gcs.credentials_file: there is no token for %s: %s", e.who, why)
}

// Unwrap lets the SDK ask again where that is its way.
func (e *identityError) Unwrap() error { return e.err }

// passes says that there may be a token later.
func (e *identityError) passes() bool {
	if code := e.status(); code != 0 {
		return passes(code)
	}
	return broken(e.err)
}

// status is the HTTP status that was answered instead of a token, or 0.
func (e *identityError) status() int {
	if refused, ok := errors.AsType[*auth.Error](e.err); ok && refused.Response != nil {
		return refused.Response.StatusCode
	}
	if refused, ok := errors.AsType[*metadata.Error](e.err); ok {
		return refused.Code
	}
	// Of the Security Token Service and of impersonation the SDK has it in words
	// only.
	var code int
	if _, err := fmt.Sscanf(e.err.Error(), "credentials: status code %d:", &code); err != nil {
		return 0
	}
	return code
}
