package s3

import (
	"net/http"
	"strings"
)

// isFull reports whether the store has no room, by its disks or by a quota of
// the bucket or the account. Amazon S3 has neither. QuotaExceeded (403) is
// Ceph's code and versitygw's, XMinioAdminBucketQuotaExceeded (400) and
// XMinioStorageFull (507) are MinIO's.
func isFull(err error) bool {
	switch c := code(err); {
	case strings.HasPrefix(c, "KMS."): // a quota of keys
		return false
	case strings.HasSuffix(c, "QuotaExceeded"), c == "XMinioStorageFull":
		return true
	}
	return status(err) == http.StatusInsufficientStorage
}
