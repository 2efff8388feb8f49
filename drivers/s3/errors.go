package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berthhq/berth/drivers"
)

// code is the store's error code, or empty. The codes are those of
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// status is that of the store's answer, or 0 if there was none.
func status(err error) int {
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.Response != nil {
		return e.Response.StatusCode
	}
	return 0
}

// isKeyRefused reports whether the store does not accept the credentials.
func isKeyRefused(err error) bool {
	switch code(err) {
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch":
		return true
	}
	return status(err) == http.StatusUnauthorized
}

// certainlyNot reports whether the store did not do what it was asked to, since
// it answered that, or was never reached.
func certainlyNot(err error) bool {
	switch status(err) {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return isKeyRefused(err)
	case http.StatusConflict, http.StatusTooManyRequests:
		return true
	case http.StatusServiceUnavailable:
		return code(err) == "SlowDown" // any other may be from a proxy
	}
	network, ok := errors.AsType[*net.OpError](err)
	return ok && network.Op == "dial" // never sent
}

// classify adds to an error of the SDK the sentinel that it stands for, if any,
// and advice. What a 404 or a 412 means depends on the call, and is not decided
// here.
func (b *bucket) classify(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err // says nothing about the store
	}
	if credentials, ok := errors.AsType[*credentialsError](err); ok {
		sentinel := drivers.ErrRefused
		if credentials.isBusy() {
			sentinel = drivers.ErrBusy
		}
		return fmt.Errorf("%w: no credentials: %w", sentinel, err)
	}
	if isFull(err) {
		return fmt.Errorf("%w: storage.s3.bucket: make room, or raise the quota of bucket %q or of its account: %w", drivers.ErrFull, b.cfg.Bucket, err)
	}
	if advice := b.advice(err); advice != "" {
		return fmt.Errorf("%w: %s: %w", drivers.ErrRefused, advice, err)
	}
	if isBusy(err) {
		return fmt.Errorf("%w: %w", drivers.ErrBusy, err)
	}
	return err
}

func isBusy(err error) bool {
	switch code(err) {
	case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestTimeTooSlow", "Throttling", "ThrottlingException",
		"TooManyRequests", "TooManyRequestsException", "RequestLimitExceeded", "ConditionalRequestConflict", "OperationAborted":
		return true
	}
	switch s := status(err); {
	case isBusyStatus(s):
		return true
	case isKMS(err):
		return strings.Contains(code(err), "Throttling")
	case s != 0: // an answer that broke off says no more than none
		_, isNetwork := errors.AsType[*net.OpError](err)
		return isNetwork || errors.Is(err, io.ErrUnexpectedEOF)
	}
	// No answer. A name that doesn't resolve and a certificate that nobody
	// vouches for are a matter of configuration, and don't pass.
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsTemporary || dns.IsTimeout
	}
	_, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, unknownAuthority := errors.AsType[x509.UnknownAuthorityError](err)
	_, notSent := errors.AsType[*smithyhttp.RequestSendError](err)
	return notSent && !badCertificate && !unknownAuthority
}

func isBusyStatus(s int) bool {
	return s >= 500 && s != http.StatusNotImplemented || s == http.StatusTooManyRequests
}

// header is one of the store's answer, or empty.
func header(err error, name string) string {
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.Response != nil {
		return e.Response.Header.Get(name)
	}
	return ""
}

// message is the store's text for an error, or empty.
func message(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorMessage()
	}
	return ""
}

// isKMS reports whether the store passed on an error of the service that holds
// its keys, such as KMS.DisabledException.
func isKMS(err error) bool { return strings.HasPrefix(code(err), "KMS.") }

// keyError is an error of DeleteObjects about one of its keys.
type keyError struct {
	code, message string
}

var _ smithy.APIError = (*keyError)(nil)

func (e *keyError) Error() string                 { return e.code + ": " + e.message }
func (e *keyError) ErrorCode() string             { return e.code }
func (e *keyError) ErrorMessage() string          { return e.message }
func (e *keyError) ErrorFault() smithy.ErrorFault { return smithy.FaultUnknown }
