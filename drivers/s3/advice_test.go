package s3

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berthhq/berth/drivers"
)

// answered returns the error that the SDK returns for a response.
func answered(status int, code, message string) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status, Header: make(http.Header)}},
		Err:      &smithy.GenericAPIError{Code: code, Message: message},
	}
}

// TestClassify checks the sentinel and the advice for each error code of a
// store.
func TestClassify(t *testing.T) {
	const permissions = "s3:GetObject, s3:PutObject"
	b := advisor{&Config{Bucket: "blobs"}, "eu-west-1"}
	for _, test := range []struct {
		status        int
		code, message string
		want          error
		contains, not string
	}{
		{404, "NoSuchBucket", "", drivers.ErrRefused, `s3.Config.Bucket: bucket "blobs" does not exist in eu-west-1`, ""},
		{403, "InvalidAccessKeyId", "", drivers.ErrRefused, "s3.Config.AccessKeyID", ""},
		{401, "Unauthorized", "", drivers.ErrRefused, "s3.Config.AccessKeyID", ""},
		{401, "", "", drivers.ErrRefused, "s3.Config.AccessKeyID", ""}, // the response to a HEAD
		{403, "RequestTimeTooSkewed", "", drivers.ErrRefused, "NTP", permissions},
		{400, "ExpiredRequest", "", drivers.ErrRefused, "NTP", permissions},
		{403, "AccessDenied", "Access Denied", drivers.ErrRefused, ", kms:Decrypt on the bucket's key, and check whether a lock or retention protects it", ""},
		{0, "AccessDenied", "Access Denied", drivers.ErrRefused, permissions, ""}, // for a key of DeleteObjects

		{403, "InvalidObjectState", "The operation is not valid for the object's access tier", drivers.ErrRefused, "restore it", permissions},
		{403, "InvalidObjectState", "", drivers.ErrRefused, "switch off the archive tiers of S3 Intelligent-Tiering", permissions},
		{409, "ObjectLockedByBucketPolicy", "", drivers.ErrRefused, "a bucket lock rule", permissions},
		{403, "AccessDenied", "Access Denied because object protected by object lock.", drivers.ErrRefused, "Object Lock or a legal hold", permissions},
		{403, "AccessDenied", "The object is under legal hold", drivers.ErrRefused, "Object Lock or a legal hold", permissions},
		{400, "InvalidRequest", "Object is WORM protected and cannot be overwritten", drivers.ErrRefused, "Object Lock or a legal hold", permissions},
		{0, "AccessDenied", "forbidden by object lock", drivers.ErrRefused, "Object Lock or a legal hold", permissions},
		{400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
			drivers.ErrRefused, "s3.Config.Checksum: none", permissions},
		{400, "InvalidRequest", "The value specified in the x-amz-checksum-crc32c header did not match", nil, "", permissions},

		{403, "AccessDenied", "User: arn:aws:iam::1:user/b is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:eu-west-1:1:key/k",
			drivers.ErrRefused, "the KMS key of the bucket: berth's user or role may not use it", permissions},
		{400, "KMS.DisabledException", "arn is disabled.", drivers.ErrRefused, "the KMS key of the bucket: check that it exists and is enabled", permissions},
		{400, "KMS.NotFoundException", "", drivers.ErrRefused, "the KMS key of the bucket", permissions},
		{400, "KMS.KMSInvalidStateException", "", drivers.ErrRefused, "the KMS key of the bucket", permissions},
		{403, "QuotaExceeded", "", drivers.ErrFull, "raise the quota of bucket", permissions},
		{400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded", drivers.ErrFull, "raise the quota of bucket", permissions},
		{507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.", drivers.ErrFull, "make room", permissions},
		{507, "", "", drivers.ErrFull, "make room", permissions},
		{400, "KMS.QuotaExceeded", "", drivers.ErrRefused, "the KMS key of the bucket", permissions},
		{400, "KMS.ThrottlingException", "", drivers.ErrBusy, "", permissions},
		{400, "ThrottlingException", "", drivers.ErrBusy, "", permissions},
		{503, "SlowDown", "", drivers.ErrBusy, "", permissions},
		{501, "NotImplemented", "", nil, "", permissions},
	} {
		err := answered(test.status, test.code, test.message)
		if test.status == 0 {
			err = &keyError{test.code, test.message}
		}
		got := b.classify(t.Context(), err)
		if test.want == nil && sentinels(got) != "" || test.want != nil && sentinels(got) != test.want.Error() {
			t.Errorf("classify(%d %s) = %v (wraps %q), want %v", test.status, test.code, got, sentinels(got), test.want)
		}
		if !errors.Is(got, err) || !strings.Contains(got.Error(), test.contains) || test.not != "" && strings.Contains(got.Error(), test.not) {
			t.Errorf("classify(%d %s %q) = %v, want an error that wraps it, with %q and without %q", test.status, test.code, test.message, got, test.contains, test.not)
		}
	}
}
