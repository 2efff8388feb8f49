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

	"github.com/berthhq/berth/drivers"
)

// retryer is the SDK's standard one, which also tries again what Amazon S3 and
// its look-alikes ask to try again. A 409 comes when another write of the key
// is under way, and says that this one did not happen. versitygw, whose keys
// are paths, answers one (ExistingObjectIsDirectory) when a delete of the last
// key in a directory takes that away under a write.
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
		o.RateLimiter = ratelimit.None // else the retries of all requests together would be limited, too
		o.Retryables = append(o.Retryables,
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{429: {}}},
			retry.RetryableErrorCode{Codes: map[string]struct{}{
				"ConditionalRequestConflict": {}, "OperationAborted": {}, "InternalError": {}, "ServiceUnavailable": {},
				"ExistingObjectIsDirectory": {}, "KMS.ThrottlingException": {},
			}},
		)
	})
}

// renewing is a retryer that also tries again what the store has refused for its
// credentials, if there are others by then.
type renewing struct {
	aws.RetryerV2
	credentials *refreshing
}

// IsErrorRetryable is asked for every attempt that failed.
func (r *renewing) IsErrorRetryable(err error) bool {
	return r.RetryerV2.IsErrorRetryable(err) || isKeyRefused(err) && r.credentials.replaced(signedBy(err))
}

// signedBy returns the key and the session token of the request that err is the
// answer to, or nothing.
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

// tries watches the attempts of one conditional write. If the answer to one
// that may have taken effect was lost, the refusal of the next is no proof that
// the write did not happen: the condition may have failed because it did.
type tries struct {
	aws.RetryerV2
	uncertain bool
}

// watch is an option of a call. Attempts of a call come one after the other.
func (t *tries) watch(o *s3.Options) {
	t.RetryerV2 = retry.AddWithErrorCodes(o.Retryer).(aws.RetryerV2)
	o.Retryer = t
}

// IsErrorRetryable is asked for every attempt that failed.
func (t *tries) IsErrorRetryable(err error) bool {
	again := t.RetryerV2.IsErrorRetryable(err)
	if again && !certainlyNot(err) {
		t.uncertain = true
	}
	return again
}

// outcome takes the claim away from a sentinel that may be about one's own
// write. drivers.ErrBusy claims nothing.
func (t *tries) outcome(err error) error {
	if t.uncertain && (errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrChanged)) {
		return fmt.Errorf("outcome unknown: an earlier attempt was not answered, and the next said: %v", err) //nolint:errorlint // the claim is taken away
	}
	return err
}
