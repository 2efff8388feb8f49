package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/berthhq/berth/drivers"
)

// failed wraps the error of an operation.
func failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("azure: %s %s: %w", op, key, err)
}

// explain returns an error of the SDK as a sentinel, or with the field of Config
// to check. It drops the SDK's own text, which fills a page, and URLs,
// which may carry a SAS. It returns any other error unchanged.
//
// ErrBusy stands for an answer that the SDK would retry, and for a connection
// that cannot be made or breaks. ErrRefused stands for an error that an operator
// can fix.
func (a *account) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !claims(err) {
		return ended
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return a.refused(e, a.toBlobs())
	}
	if e, ok := errors.AsType[*identityError](err); ok {
		sentinel := drivers.ErrRefused
		if e.passes() {
			sentinel = drivers.ErrBusy
		}
		return fmt.Errorf("%w: %s is not set, and the environment provides no identity that works (see AZURE_CLIENT_ID and related variables): %w", sentinel, a.credential, e)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && !e.IsTemporary && !e.IsTimeout {
		return fmt.Errorf("%w: azure.Config.Account or azure.Config.Endpoint: the host %s does not resolve: %w", drivers.ErrRefused, a.endpoint.Hostname(), e)
	}
	if broken(err) {
		return fmt.Errorf("%w: %s: %w", drivers.ErrBusy, a.endpoint.Host, err)
	}
	return err
}

// claims reports whether err already wraps a sentinel about the object.
func claims(err error) bool {
	return slices.ContainsFunc([]error{drivers.ErrNotFound, drivers.ErrExists, drivers.ErrChanged, drivers.ErrRange},
		func(s error) bool { return errors.Is(err, s) })
}

// broken reports whether err is an error of the connection: it could not be
// made, it broke, or it was silent for too long.
func broken(err error) bool {
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "dial" || e.Op == "read" || e.Op == "write") {
		return true
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return true
	}
	_, halfHeader := errors.AsType[textproto.ProtocolError](err)
	halfStatus := strings.Contains(err.Error(), "transport connection broken") // net/http has no type for it
	return halfHeader || halfStatus || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// refused returns the error for a response of the service. If access
// is denied, the error contains needs, the right that the request requires. The
// codes:
// https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes.
func (a *account) refused(e *azcore.ResponseError, needs right) error {
	answer := fmt.Sprintf("the service answered %d %s", e.StatusCode, e.ErrorCode)
	if e.RawResponse != nil {
		if id := e.RawResponse.Header.Get("x-ms-request-id"); id != "" {
			answer += ", request " + id
		}
	}
	if passes(e.StatusCode) {
		return fmt.Errorf("%w: %s", drivers.ErrBusy, answer)
	}
	if e.StatusCode == http.StatusInsufficientStorage { // Azure has no code for it; other stores may answer this
		return fmt.Errorf("%w: %s", drivers.ErrFull, answer)
	}
	switch code := bloberror.Code(e.ErrorCode); code {
	case bloberror.BlobNotFound:
		return drivers.ErrNotFound
	case bloberror.InvalidRange:
		return drivers.ErrRange
	case bloberror.InvalidHeaderValue:
		return a.badHeader(e, answer)
	default:
		if advice := a.advice(code, needs); advice != "" {
			return fmt.Errorf("%w: %s (%s)", drivers.ErrRefused, advice, answer)
		}
		return errors.New(answer)
	}
}

// passes reports whether the SDK retries an answer with this status.
func passes(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// right is the right that a request requires, and the field of Config that names
// the resource on which it is granted.
type right struct {
	field, grant string
}

// toBlobs returns the right that requests about blobs require.
func (a *account) toBlobs() right {
	if a.identity != nil {
		return right{"azure.Config.Container", "grant the identity the role Storage Blob Data Contributor on the container"}
	}
	return right{"azure.Config.Container", "berth needs the permissions racwdl of " + a.credential}
}

// toSign returns the right to get a key for signing URLs.
func (a *account) toSign() right {
	return right{"azure.Config.Account", fmt.Sprintf("to sign URLs the identity needs "+
		"Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action on the account %q; a container is not enough", a.name)}
}

// advice returns the field of Config to check and what to do, or "" if no field
// fixes the error.
func (a *account) advice(code bloberror.Code, needs right) string {
	if ends := a.sasEnds; !ends.IsZero() && time.Now().After(ends) {
		switch code {
		case bloberror.AuthenticationFailed, bloberror.AuthorizationFailure:
			return fmt.Sprintf("%s: it expired at %v; create another", a.credential, ends.UTC().Format(time.RFC3339))
		}
	}
	switch code {
	case bloberror.ContainerNotFound, bloberror.InvalidResourceName, bloberror.ContainerBeingDeleted, bloberror.ContainerDisabled:
		return fmt.Sprintf("azure.Config.Container: account %q has no such container; check the name, or create it", a.name)
	case bloberror.AuthenticationFailed, bloberror.InvalidAuthenticationInfo, bloberror.NoAuthenticationInformation:
		if a.identity != nil {
			return fmt.Sprintf("azure.Config.Account: %q does not accept the identity's token; check that both belong to one tenant, and check this machine's clock", a.name)
		}
		return fmt.Sprintf("%s: account %q refuses it; it is wrong or has expired, or this machine's clock is wrong", a.credential, a.name)
	case bloberror.AuthorizationPermissionMismatch, bloberror.InsufficientAccountPermissions, bloberror.UnauthorizedBlobOverwrite,
		bloberror.AuthorizationResourceTypeMismatch, bloberror.AuthorizationServiceMismatch:
		return fmt.Sprintf("%s: access is denied; %s", needs.field, needs.grant)
	case bloberror.AuthorizationFailure, bloberror.AuthorizationSourceIPMismatch, bloberror.AuthorizationProtocolMismatch:
		check := "check it, and the account's network rules"
		if a.sas != "" {
			check += ", and its SAS expiration policy, which may require a start time (st) and a shorter lifetime"
		}
		return fmt.Sprintf("%s: account %q denies access; %s; %s", a.credential, a.name, check, needs.grant)
	case "KeyBasedAuthenticationNotPermitted":
		return fmt.Sprintf("%s: account %q does not accept keys; leave it empty to use an identity", a.credential, a.name)
	case "BlobAccessTierNotSupportedForAccountType":
		return fmt.Sprintf("azure.Config.AccessTier: account %q has a type without access tiers; leave it empty", a.name)
	case bloberror.AccountIsDisabled:
		return fmt.Sprintf("azure.Config.Account: %q is disabled", a.name)
	default:
		return ""
	}
}

// identity is a credential with errors that differ in type from the store's.
type identity struct {
	azcore.TokenCredential
}

// GetToken returns a token of the credential. Unless ctx has ended, its error
// is an identityError.
func (i identity) GetToken(ctx context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := i.TokenCredential.GetToken(ctx, opts)
	if err != nil && ctx.Err() == nil {
		err = &identityError{err}
	}
	return token, err
}

// identityError is an error of the identity, not of the store.
type identityError struct {
	err error
}

// Error returns one line. The SDK's text contains the whole answer of the token
// service, with the reason between rules of dashes.
func (e *identityError) Error() string {
	words := slices.DeleteFunc(strings.Fields(e.err.Error()), func(w string) bool { return strings.Trim(w, "-") == "" })
	return strings.Join(words, " ")
}

// passes reports whether a later request to the token service may succeed.
func (e *identityError) passes() bool {
	if refused, ok := errors.AsType[*azidentity.AuthenticationFailedError](e.err); ok && refused.RawResponse != nil {
		return passes(refused.RawResponse.StatusCode)
	}
	return false
}

// Unwrap returns the credential's error, so that the SDK does not retry if the
// credential marks the error as permanent.
func (e *identityError) Unwrap() error { return e.err }
