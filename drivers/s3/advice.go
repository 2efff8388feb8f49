package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/berthhq/berth/drivers"
)

const accessKeyAdvice = "s3.Config.AccessKeyID: the store does not accept this key: check that it exists and is active"

// advisor explains a store's errors: it returns the sentinel that an error
// stands for, and what the operator can do about it.
type advisor struct {
	cfg    *Config
	region string
}

// classify returns err wrapped with the sentinel that it stands for, if any,
// and with advice. It does not interpret 404 and 412: their meaning depends on
// the call.
func (a advisor) classify(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err // no information about the store
	}
	if credentials, ok := errors.AsType[*credentialsError](err); ok {
		sentinel := drivers.ErrRefused
		if credentials.isBusy() {
			sentinel = drivers.ErrBusy
		}
		return fmt.Errorf("%w: no credentials: %w", sentinel, err)
	}
	if isFull(err) {
		return fmt.Errorf("%w: s3.Config.Bucket: make room, or raise the quota of bucket %q or of its account: %w", drivers.ErrFull, a.cfg.Bucket, err)
	}
	if advice := a.advice(err); advice != "" {
		return fmt.Errorf("%w: %s: %w", drivers.ErrRefused, advice, err)
	}
	if isBusy(err) {
		return fmt.Errorf("%w: %w", drivers.ErrBusy, err)
	}
	return err
}

// advice returns what the operator can do about an error that no retry fixes,
// or "" for any other error. If a setting is to blame, the text starts with its
// name.
func (a advisor) advice(err error) string {
	if text := a.adviceByCode(err); text != "" {
		return text
	}
	switch status(err) {
	case http.StatusMovedPermanently:
		return a.regionAdvice(err)
	case http.StatusUnauthorized: // Cloudflare R2
		return accessKeyAdvice
	case http.StatusForbidden:
		return a.denialAdvice()
	case 0:
		return connectionAdvice(err)
	}
	return ""
}

// connectionAdvice returns advice about a store that could not be reached.
func connectionAdvice(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "s3.Config.Endpoint: the host name does not resolve"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "s3.Config.CAFile: the store's certificate is from an authority that this machine does not trust: name a file with the authority's certificate"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "s3.Config.Endpoint: the store's certificate is for other host names"
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return "the store's certificate is not valid (or the clock of this machine is wrong)"
	}
	return ""
}

// adviceByCode returns advice for the error codes of Amazon S3, Cloudflare R2
// (https://developers.cloudflare.com/r2/api/error-codes/) and versitygw.
func (a advisor) adviceByCode(err error) string {
	switch c := code(err); c {
	case "NoSuchBucket":
		return fmt.Sprintf("s3.Config.Bucket: bucket %q does not exist in %s (check the name, s3.Config.Region and s3.Config.Endpoint)", a.cfg.Bucket, a.region)
	case "InvalidBucketName":
		return fmt.Sprintf("s3.Config.Bucket: %q is not the name of a bucket", a.cfg.Bucket)
	case "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect":
		return a.regionAdvice(err)
	case "InvalidAccessKeyId", "XAdminUserNotFound", "Unauthorized":
		return accessKeyAdvice
	case "SignatureDoesNotMatch":
		return "s3.Config.SecretAccessKey: it does not belong to the access key (or s3.Config.Region is not the store's)"
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired":
		return "s3.Config.SessionToken: the credentials have expired or were revoked"
	case "RequestTimeTooSkewed", "ExpiredRequest":
		return "the clock of this machine is wrong: synchronize it (NTP)"
	case "InvalidObjectState":
		return "the object is in an archive class or tier, where it can't be read: restore it (s3:RestoreObject), " +
			"switch off the archive tiers of S3 Intelligent-Tiering for the bucket, and remove lifecycle rules that move objects to GLACIER or DEEP_ARCHIVE"
	case "ObjectLockedByBucketPolicy":
		return fmt.Sprintf("a bucket lock rule of bucket %q protects the object: berth replaces its records and deletes data, so no rule may cover its keys", a.cfg.Bucket)
	case "AccessDenied", "InvalidRequest", "ObjectLocked":
		return a.lockAdvice(err)
	}
	if isKMS(err) && !isBusy(err) {
		return "the KMS key of the bucket: check that it exists and is enabled, and that berth's user or role may use it (kms:GenerateDataKey, kms:Decrypt)"
	}
	return ""
}

// lockAdvice recognizes a refusal caused by Object Lock, a legal hold or the
// KMS key by its message, because the code is the same for any refusal. Without
// such a message it returns denialAdvice for AccessDenied, even if the error has
// no status, as the errors of DeleteObjects about single keys.
func (a advisor) lockAdvice(err error) string {
	text := strings.ToLower(message(err))
	lock := strings.Contains(text, "object lock") || strings.Contains(text, "legal hold") || strings.Contains(text, "worm protected")
	switch {
	case strings.Contains(text, "object lock") && (strings.Contains(text, "checksum") || strings.Contains(text, "content-md5")):
		return "s3.Config.Checksum: none can't be used with Object Lock, because writes to such a bucket must carry a checksum: use crc32c"
	case lock:
		return fmt.Sprintf("Object Lock or a legal hold of bucket %q protects the object: berth replaces its records and deletes data, "+
			"so remove the hold and the default retention (berth check reads it)", a.cfg.Bucket)
	case code(err) != "AccessDenied":
		return ""
	case strings.Contains(text, "kms:"):
		return "the KMS key of the bucket: berth's user or role may not use it: allow kms:GenerateDataKey and kms:Decrypt, in its policy and in the key's"
	}
	return a.denialAdvice()
}

// regionAdvice returns advice about a bucket that is in another region.
func (a advisor) regionAdvice(err error) string {
	if region := header(err, "x-amz-bucket-region"); region != "" {
		return fmt.Sprintf("s3.Config.Region: bucket %q is in %s, not %s", a.cfg.Bucket, region, a.region)
	}
	return fmt.Sprintf("s3.Config.Region: bucket %q is not in %s, or not at s3.Config.Endpoint", a.cfg.Bucket, a.region)
}

// denialAdvice returns advice about a denial that names no reason.
func (a advisor) denialAdvice() string {
	owner := ""
	if a.cfg.ExpectedBucketOwner != "" {
		owner = fmt.Sprintf("check that it belongs to account %s (s3.Config.ExpectedBucketOwner), ", a.cfg.ExpectedBucketOwner)
	}
	payer := ""
	if a.cfg.RequestPayer == "" && a.cfg.Endpoint == "" {
		payer = "set s3.Config.RequestPayer if it is a Requester Pays bucket of another account, "
	}
	return fmt.Sprintf("access to bucket %q is denied: %s%sallow its user or role s3:GetObject, s3:PutObject, s3:DeleteObject, "+
		"s3:AbortMultipartUpload and s3:ListMultipartUploadParts on the objects, s3:ListBucket and s3:ListBucketMultipartUploads on the bucket, "+
		"kms:Decrypt on the bucket's key, and check whether a lock or retention protects it", a.cfg.Bucket, owner, payer)
}
