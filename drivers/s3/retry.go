package s3

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const defaultRetries = 2

// retryer returns the SDK's standard retryer, extended by the errors that Amazon
// S3 and compatible stores expect clients to retry. A 409 means that another
// write of the key is in progress and that this one did not happen. In versitygw
// keys are paths: it answers 409 (ExistingObjectIsDirectory) if a delete of the
// last key in a directory removes the directory during a write.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
func (c *Config) retryer() aws.Retryer {
	attempts := 1 + defaultRetries
	switch {
	case c.Retries < 0:
		attempts = 1
	case c.Retries > 0:
		attempts = 1 + c.Retries
	}
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.RateLimiter = ratelimit.None // otherwise the SDK limits the retries of all requests together
		o.Retryables = append(o.Retryables,
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{429: {}}},
			retry.RetryableErrorCode{Codes: map[string]struct{}{
				"ConditionalRequestConflict": {}, "OperationAborted": {}, "InternalError": {}, "ServiceUnavailable": {},
				"ExistingObjectIsDirectory": {}, "KMS.ThrottlingException": {},
			}},
		)
	})
}

// renewing is a retryer that also retries a request that the store refused for
// its credentials, if new credentials are available.
type renewing struct {
	aws.RetryerV2
	credentials *credentialsCache
}

// IsErrorRetryable reports whether the attempt that failed with err is retried.
// The SDK calls it after every failed attempt.
func (r *renewing) IsErrorRetryable(err error) bool {
	return r.RetryerV2.IsErrorRetryable(err) || isKeyRefused(err) && r.credentials.replaced(signedBy(err))
}

// signedBy returns the access key and the session token of the request that
// failed with err, or empty strings.
func signedBy(err error) (id, token string) {
	e, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || e.Response == nil || e.Response.Response == nil || e.Response.Request == nil {
		return "", ""
	}
	h := e.Response.Request.Header
	_, credential, _ := strings.Cut(h.Get("Authorization"), "Credential=")
	id, _, _ = strings.Cut(credential, "/")
	return id, h.Get("X-Amz-Security-Token")
}

// attempts records the attempts of one conditional write. If the response to an
// attempt that may have taken effect was lost, the refusal of the next attempt
// is no proof that the write did not happen: the condition may have failed
// because it did.
type attempts struct {
	aws.RetryerV2
	uncertain bool
}

// watch is an option for one call. The attempts of a call are sequential.
func (a *attempts) watch(o *s3.Options) {
	a.RetryerV2 = retry.AddWithErrorCodes(o.Retryer).(aws.RetryerV2)
	o.Retryer = a
}

// IsErrorRetryable reports whether the attempt that failed with err is retried.
// The SDK calls it after every failed attempt.
func (a *attempts) IsErrorRetryable(err error) bool {
	retried := a.RetryerV2.IsErrorRetryable(err)
	if retried && !definitelyNotApplied(err) {
		a.uncertain = true
	}
	return retried
}

// claim returns refusal, which is ErrExists or ErrChanged, unless an earlier
// attempt may have taken effect: then the refusal could be caused by this write
// itself, and claim returns an error that wraps neither.
func (a *attempts) claim(refusal error) error {
	if a.uncertain {
		return fmt.Errorf("outcome unknown: an earlier attempt was not answered, and the next one was refused: %v", refusal) //nolint:errorlint // wraps nothing on purpose
	}
	return refusal
}
