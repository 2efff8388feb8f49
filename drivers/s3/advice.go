package s3

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

const accessKeyAdvice = "storage.s3.access_key_id: the store does not know it, or does not accept it any more"

// advice returns what the operator can do about an error that no retry fixes,
// or "" for any other error. If a setting is to blame, the text starts with its
// name.
func (b *bucket) advice(err error) string {
	if text := b.adviceByCode(err); text != "" {
		return text
	}
	switch status(err) {
	case http.StatusMovedPermanently:
		return b.regionAdvice(err)
	case http.StatusUnauthorized: // Cloudflare R2
		return accessKeyAdvice
	case http.StatusForbidden:
		return b.denialAdvice()
	case 0:
		return connectionAdvice(err)
	}
	return ""
}

// connectionAdvice returns advice about a store that could not be reached.
func connectionAdvice(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "storage.s3.endpoint: the host name does not resolve"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "storage.s3.ca_file: the store's certificate is from an authority that this machine does not know: name a file with the authority's certificate"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "storage.s3.endpoint: the store's certificate is for other host names"
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return "the store's certificate is not valid (or the clock of this machine is wrong)"
	}
	return ""
}

// adviceByCode returns advice for the error codes of Amazon S3, Cloudflare R2
// (https://developers.cloudflare.com/r2/api/error-codes/) and versitygw.
func (b *bucket) adviceByCode(err error) string {
	switch c := code(err); c {
	case "NoSuchBucket":
		return fmt.Sprintf("storage.s3.bucket: bucket %q does not exist in %s (check the name, storage.s3.region and storage.s3.endpoint)", b.cfg.Bucket, b.region)
	case "InvalidBucketName":
		return fmt.Sprintf("storage.s3.bucket: %q is not the name of a bucket", b.cfg.Bucket)
	case "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect":
		return b.regionAdvice(err)
	case "InvalidAccessKeyId", "XAdminUserNotFound", "Unauthorized":
		return accessKeyAdvice
	case "SignatureDoesNotMatch":
		return "storage.s3.secret_access_key: it is not the access key's (or storage.s3.region is not the store's)"
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired":
		return "storage.s3.session_token: the credentials have expired or were revoked"
	case "RequestTimeTooSkewed", "ExpiredRequest":
		return "the clock of this machine is wrong: synchronize it (NTP)"
	case "InvalidObjectState":
		return "the object is in an archive class or tier, where it can't be read: restore it (s3:RestoreObject), " +
			"switch off the archive tiers of S3 Intelligent-Tiering for the bucket, and remove lifecycle rules that move objects to GLACIER or DEEP_ARCHIVE"
	case "ObjectLockedByBucketPolicy":
		return fmt.Sprintf("a bucket lock rule of bucket %q holds the object: berth replaces its records and deletes data, so no rule may cover its keys", b.cfg.Bucket)
	case "AccessDenied", "InvalidRequest", "ObjectLocked":
		return b.lockAdvice(err)
	}
	if isKMS(err) && !isBusy(err) {
		return "the key of the bucket: see that it exists, is enabled, and that berth's user or role may use it (kms:GenerateDataKey, kms:Decrypt)"
	}
	return ""
}

// lockAdvice recognizes a refusal caused by Object Lock, a legal hold or the
// KMS key by its message, because the code is the same for any refusal. Without
// such a message it returns denialAdvice for AccessDenied, even if the answer
// has no status of its own, as the errors of DeleteObjects about single keys.
func (b *bucket) lockAdvice(err error) string {
	text := strings.ToLower(message(err))
	lock := strings.Contains(text, "object lock") || strings.Contains(text, "legal hold") || strings.Contains(text, "worm protected")
	switch {
	case strings.Contains(text, "object lock") && (strings.Contains(text, "checksum") || strings.Contains(text, "content-md5")):
		return "storage.s3.checksum: none does not go with a bucket that has Object Lock, whose writes must carry a checksum: use crc32c"
	case lock:
		return fmt.Sprintf("Object Lock or a legal hold of bucket %q keeps the object as it is: berth replaces its records and deletes data, "+
			"so remove the hold and the default retention (berth check reads it)", b.cfg.Bucket)
	case code(err) != "AccessDenied":
		return ""
	case strings.Contains(text, "kms:"):
		return "the key of the bucket: berth's user or role may not use it: allow kms:GenerateDataKey and kms:Decrypt, in its policy and in the key's"
	}
	return b.denialAdvice()
}

// regionAdvice returns advice about a bucket that is in another region.
func (b *bucket) regionAdvice(err error) string {
	if region := header(err, "x-amz-bucket-region"); region != "" {
		return fmt.Sprintf("storage.s3.region: bucket %q is in %s, not %s", b.cfg.Bucket, region, b.region)
	}
	return fmt.Sprintf("storage.s3.region: bucket %q is not in %s, or not at storage.s3.endpoint", b.cfg.Bucket, b.region)
}

// denialAdvice returns advice about a denial that names no reason.
func (b *bucket) denialAdvice() string {
	owner := ""
	if b.cfg.ExpectedBucketOwner != "" {
		owner = fmt.Sprintf("see that it belongs to account %s (storage.s3.expected_bucket_owner), ", b.cfg.ExpectedBucketOwner)
	}
	payer := ""
	if b.cfg.RequestPayer == "" && b.cfg.Endpoint == "" {
		payer = "set storage.s3.request_payer if it is a Requester Pays bucket of another account, "
	}
	return fmt.Sprintf("access to bucket %q is denied: %s%sallow its user or role s3:GetObject, s3:PutObject, s3:DeleteObject, "+
		"s3:AbortMultipartUpload and s3:ListMultipartUploadParts on the objects, s3:ListBucket and s3:ListBucketMultipartUploads on the bucket, "+
		"kms:Decrypt on the bucket's key, and see whether a lock or retention holds it", b.cfg.Bucket, owner, payer)
}
