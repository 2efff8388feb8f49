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

// certainlyNot says that the store did not do what it was asked, since it said
// so, or was never reached.
func certainlyNot(err error) bool {
	switch status(err) {
	case http.StatusConflict, http.StatusTooManyRequests:
		return true
	case http.StatusServiceUnavailable:
		return code(err) == "SlowDown" // any other may be from a proxy
	}
	network, ok := errors.AsType[*net.OpError](err)
	return ok && network.Op == "dial" // never sent
}

// classify gives an error of the SDK the sentinel that it stands for, if any,
// or the setting that mends it. What a 404 or a 412 says depends on the call,
// and is not decided here.
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

// advice says what to do about what trying again won't mend, or nothing.
func (b *bucket) advice(err error) string {
	switch c, s := code(err), status(err); {
	case c == "NoSuchBucket":
		return fmt.Sprintf("storage.s3.bucket: bucket %q does not exist in %s (check the name, storage.s3.region and storage.s3.endpoint)", b.cfg.Bucket, b.region)
	case c == "InvalidBucketName":
		return fmt.Sprintf("storage.s3.bucket: %q is not the name of a bucket", b.cfg.Bucket)
	case s == http.StatusMovedPermanently, c == "AuthorizationHeaderMalformed", c == "IllegalLocationConstraintException", c == "PermanentRedirect":
		if region := header(err, "x-amz-bucket-region"); region != "" {
			return fmt.Sprintf("storage.s3.region: bucket %q is in %s, not %s", b.cfg.Bucket, region, b.region)
		}
		return fmt.Sprintf("storage.s3.region: bucket %q is not in %s, or not at storage.s3.endpoint", b.cfg.Bucket, b.region)
	case c == "InvalidAccessKeyId", c == "XAdminUserNotFound": // versitygw
		return "storage.s3.access_key_id: the store does not know it"
	case c == "SignatureDoesNotMatch":
		return "storage.s3.secret_access_key: it is not the access key's (or storage.s3.region is not the store's)"
	case c == "ExpiredToken", c == "ExpiredTokenException", c == "InvalidToken", c == "TokenRefreshRequired":
		return "storage.s3.session_token: the credentials have expired or were revoked"
	case c == "RequestTimeTooSkewed":
		return "the clock of this machine is wrong: synchronize it (NTP)"
	case s == http.StatusForbidden:
		return fmt.Sprintf("access to bucket %q is denied: allow its user or role s3:GetObject, s3:PutObject, s3:DeleteObject, "+
			"s3:AbortMultipartUpload and s3:ListMultipartUploadParts on the objects, s3:ListBucket and s3:ListBucketMultipartUploads on the bucket", b.cfg.Bucket)
	case s == 0:
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			return "storage.s3.endpoint: the host name does not resolve"
		}
	}
	return ""
}

// header is one of the store's answer, or empty.
func header(err error, name string) string {
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.Response != nil {
		return e.Response.Header.Get(name)
	}
	return ""
}

// keyError is what DeleteObjects says about one of its keys.
type keyError struct {
	code, message string
}

var _ smithy.APIError = (*keyError)(nil)

func (e *keyError) Error() string                 { return e.code + ": " + e.message }
func (e *keyError) ErrorCode() string             { return e.code }
func (e *keyError) ErrorMessage() string          { return e.message }
func (e *keyError) ErrorFault() smithy.ErrorFault { return smithy.FaultUnknown }
