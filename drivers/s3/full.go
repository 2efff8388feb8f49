package s3

import (
	"net/http"
	"strings"
)

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
