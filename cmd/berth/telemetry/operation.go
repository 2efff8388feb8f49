package telemetry

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// operation returns the name of what a request to a store does. The names are the same
// for all drivers, where the stores have the same operations.
func operation(driver string, req *http.Request) string {
	query := req.URL.Query()
	switch driver {
	case "s3":
		return operationS3(req.Method, query)
	case "gcs":
		return operationGCS(req.Method, req.URL.Path, query)
	case "azure":
		return operationAzure(req.Method, query)
	default:
		return plain(req.Method)
	}
}

// plain returns the operation of a request for an object itself.
func plain(method string) string {
	switch method {
	case http.MethodGet:
		return "read"
	case http.MethodHead:
		return "stat"
	case http.MethodPut:
		return "write"
	case http.MethodDelete:
		return "delete"
	default:
		return "other"
	}
}

// operationS3 follows
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html.
func operationS3(method string, query url.Values) string {
	for _, row := range requestsS3 {
		if row.method == method && query.Has(row.parameter) {
			return row.operation
		}
	}
	if slices.ContainsFunc([]string{"session", "location", "versioning", "lifecycle"}, query.Has) {
		return "other"
	}
	return plain(method)
}

// requestsS3 has the operations that a parameter of the query tells from others.
var requestsS3 = []struct{ method, parameter, operation string }{
	{http.MethodPost, "uploads", "start_upload"},
	{http.MethodPost, "uploadId", "complete_upload"},
	{http.MethodPost, "delete", "delete"},
	{http.MethodPut, "uploadId", "write_part"},
	{http.MethodDelete, "uploadId", "abort_upload"},
	{http.MethodGet, "uploadId", "list_parts"},
	{http.MethodGet, "uploads", "list_uploads"},
	{http.MethodGet, "list-type", "list"},
}

// operationGCS follows https://cloud.google.com/storage/docs/json_api/v1. Objects are
// read at paths of the XML API or with alt=media.
func operationGCS(method, path string, query url.Values) string {
	rest, isJSON := strings.CutPrefix(path, "/storage/v1/b/")
	_, object, isObject := strings.Cut(rest, "/o/")
	switch {
	case strings.Contains(path, "/upload/"):
		return "write"
	case strings.Contains(path, "/batch/"):
		return "delete"
	case !isJSON:
		return plain(method)
	case isObject && method == http.MethodPost && strings.HasSuffix(object, "/compose"):
		return "compose"
	case isObject && method == http.MethodGet && query.Get("alt") != "media":
		return "stat"
	case isObject:
		return plain(method)
	case method == http.MethodGet && strings.HasSuffix(rest, "/o"):
		return "list"
	default:
		return "other"
	}
}

// operationAzure follows
// https://learn.microsoft.com/en-us/rest/api/storageservices/blob-service-rest-api.
func operationAzure(method string, query url.Values) string {
	switch comp := query.Get("comp"); {
	case comp == "block":
		return "write_part"
	case comp == "blocklist" && method == http.MethodPut:
		return "complete_upload"
	case comp == "blocklist":
		return "list_parts"
	case comp == "list":
		return "list"
	case comp == "batch":
		return "delete"
	case comp != "", query.Has("restype"):
		return "other"
	default:
		return plain(method)
	}
}
