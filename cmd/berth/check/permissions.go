package check

import (
	"slices"
	"strings"
)

// permissions are those that a call of the bucket takes, by the driver and by
// the names that its cloud gives them.
type permissions map[string][]string

const (
	azureService = "Microsoft.Storage/storageAccounts/blobServices/"
	azureBlobs   = azureService + "containers/blobs/"
)

// What each call takes. In S3 a condition on an ETag reads it, and only who may
// list is told that an object is absent; in Cloud Storage to overwrite an object
// is to delete it, and parts are objects; in Azure nobody has to end an upload.
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
	// A batch of Azure's takes the right to write, and each of its requests the
	// right to delete: https://learn.microsoft.com/rest/api/storageservices/blob-batch.
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
	toMiss = permissions{ // to read what is absent
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
	toTellParts = permissions{ // which of two of one number an upload has become
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

// names are the permissions that the calls of a step take.
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

// sentence says that a step takes these permissions, if it is known that it
// takes any. Those without a name are left out.
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
