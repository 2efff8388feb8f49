package check

import (
	"slices"
	"strings"
)

// permissions are the names of the permissions that a call of the bucket needs, by
// driver.
type permissions map[string][]string

const (
	azureService = "Microsoft.Storage/storageAccounts/blobServices/"
	azureBlobs   = azureService + "containers/blobs/"
)

// The permissions of each call. In S3, a condition on an ETag needs permission to
// read, and only clients with permission to list learn that an object is absent.
// In Cloud Storage, overwriting an object needs permission to delete it, and parts
// are objects. In Azure, uploads need not be aborted.
var (
	toCreate = permissions{
		"s3":    {"s3:PutObject"},
		"gcs":   {"storage.objects.create"},
		"azure": {azureBlobs + "write"},
	}
	toReplace = permissions{
		"s3":    {"s3:PutObject", "s3:GetObject"},
		"gcs":   {"storage.objects.create", "storage.objects.delete"},
		"azure": {azureBlobs + "write"},
	}
	toDelete = permissions{
		"s3":    {"s3:DeleteObject"},
		"gcs":   {"storage.objects.delete"},
		"azure": {azureBlobs + "delete"},
	}
	// A batch in Azure needs permission to write, and each of its requests
	// permission to delete: https://learn.microsoft.com/rest/api/storageservices/blob-batch.
	toDeleteMany = permissions{
		"s3":    toDelete["s3"],
		"gcs":   toDelete["gcs"],
		"azure": {azureBlobs + "write", azureBlobs + "delete"},
	}
	toDeleteIf = permissions{
		"s3":    {"s3:DeleteObject", "s3:GetObject"},
		"gcs":   {"storage.objects.delete"},
		"azure": {azureBlobs + "delete"},
	}
	toRead = permissions{
		"s3":    {"s3:GetObject"},
		"gcs":   {"storage.objects.get"},
		"azure": {azureBlobs + "read"},
	}
	toMiss = permissions{ // to find that an object is absent
		"s3":    {"s3:GetObject", "s3:ListBucket"},
		"gcs":   {"storage.objects.get"},
		"azure": {azureBlobs + "read"},
	}
	toList = permissions{
		"s3":    {"s3:ListBucket"},
		"gcs":   {"storage.objects.list"},
		"azure": {azureBlobs + "read"},
	}
	toPutParts = toCreate
	toComplete = permissions{
		"s3":    {"s3:PutObject"},
		"gcs":   {"storage.objects.create", "storage.objects.get", "storage.objects.delete"},
		"azure": {azureBlobs + "write"},
	}
	toListParts = permissions{ // to find which of two parts with one number a completed upload contains
		"s3":    {"s3:ListMultipartUploadParts (under SSE-KMS)"},
		"gcs":   {"storage.objects.get"},
		"azure": {azureBlobs + "read"},
	}
	toListUploads = permissions{
		"s3":  {"s3:ListBucketMultipartUploads"},
		"gcs": {"storage.objects.list"},
	}
	toAbort = permissions{
		"s3":  {"s3:AbortMultipartUpload"},
		"gcs": {"storage.objects.list", "storage.objects.delete"},
	}
	toSign = permissions{
		"gcs":   {"iam.serviceAccounts.signBlob (where IAM signs)"},
		"azure": {azureService + "generateUserDelegationKey/action (on the storage account, where an identity signs)"},
	}
)

// names returns the permissions that the calls of a step need.
func names(driver string, needs []permissions) []string {
	var names []string
	for _, p := range needs {
		for _, name := range p[driver] {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// sentence returns a sentence that lists the permissions that a step needs, or ""
// if there are none. It skips empty names.
func sentence(permissions []string) string {
	permissions = slices.DeleteFunc(slices.Clone(permissions), func(name string) bool { return name == "" })
	switch last := len(permissions) - 1; {
	case last < 0:
		return ""
	case last == 0:
		return " It needs the permission " + permissions[0] + "."
	default:
		return " It needs the permissions " + strings.Join(permissions[:last], ", ") + " and " + permissions[last] + "."
	}
}
