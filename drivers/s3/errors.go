package s3

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// code returns the store's error code, or "". The codes are those of
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// status returns the status of the store's response, or 0 if there was none.
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

// definitelyNotApplied reports whether the request had no effect, because the
// store's response proves it or because the request never reached the store.
func definitelyNotApplied(err error) bool {
	switch status(err) {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return isKeyRefused(err)
	case http.StatusConflict, http.StatusTooManyRequests:
		return true
	case http.StatusServiceUnavailable:
		return code(err) == "SlowDown" // any other 503 may be from a proxy
	}
	network, ok := errors.AsType[*net.OpError](err)
	return ok && network.Op == "dial" // never sent
}

// isUnsupported reports whether the store does not support the request.
func isUnsupported(err error) bool {
	s := status(err)
	return s == http.StatusBadRequest || s == http.StatusNotImplemented
}

// isAbsent reports whether the store has no such key. If a response has no
// body, the code is NotFound.
func isAbsent(err error) bool {
	c := code(err)
	return c == "NoSuchKey" || c == "NotFound"
}

// isFull reports whether the store is out of space, because of its disks or a
// quota of the bucket or the account. Amazon S3 has neither limit.
// QuotaExceeded (403) is the code of Ceph and versitygw,
// XMinioAdminBucketQuotaExceeded (400) and XMinioStorageFull (507) are MinIO's.
func isFull(err error) bool {
	switch c := code(err); {
	case strings.HasPrefix(c, "KMS."): // a quota of keys
		return false
	case strings.HasSuffix(c, "QuotaExceeded"), c == "XMinioStorageFull":
		return true
	}
	return status(err) == http.StatusInsufficientStorage
}

// isBusy reports whether the store throttles, is unavailable, or could not be
// reached for a reason that may pass.
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
	case s != 0: // a truncated response has no more information than none
		_, isNetwork := errors.AsType[*net.OpError](err)
		return isNetwork || errors.Is(err, io.ErrUnexpectedEOF)
	}
	// There was no response. A name that doesn't resolve and a certificate from
	// an unknown authority are errors of the configuration, and don't pass.
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

// header returns a header of the store's response, or "".
func header(err error, name string) string {
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.Response != nil {
		return e.Response.Header.Get(name)
	}
	return ""
}

// message returns the store's text for an error, or "".
func message(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorMessage()
	}
	return ""
}

// isKMS reports whether the store passed on an error of its key management
// service, such as KMS.DisabledException.
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
