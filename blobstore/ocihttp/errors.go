package ocihttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/access"
)

// Error codes of the specification
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes).
const (
	codeBlobUnknown     = "BLOB_UNKNOWN"
	codeUploadInvalid   = "BLOB_UPLOAD_INVALID"
	codeUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	codeDenied          = "DENIED"
	codeDigestInvalid   = "DIGEST_INVALID"
	codeNameInvalid     = "NAME_INVALID"
	codeSizeInvalid     = "SIZE_INVALID"
	codeTooManyRequests = "TOOMANYREQUESTS"
	codeUnsupported     = "UNSUPPORTED"
)

// Error codes that other registries use as well, where the specification has
// none.
const (
	codeRangeInvalid = "RANGE_INVALID"
	codeUnavailable  = "UNAVAILABLE"
	codeUnknown      = "UNKNOWN"
)

// Values of Retry-After, in seconds.
const (
	retryAfterUnavailable = 5
	retryAfterTooMany     = 2
)

// apiError is an error response. Its message is sent to the client, so it holds
// nothing that is internal to the service.
type apiError struct {
	status     int
	code       string
	message    string
	allow      string // Allow header
	inRange    string // Content-Range header
	retryAfter int    // seconds; 0 for none
}

func (e *apiError) Error() string { return e.message }

var (
	errNoSuchPath = &apiError{status: http.StatusNotFound, code: codeUnsupported,
		message: "unknown path: this service has /v2/ and /v2/<name>/blobs/"}
	errNoDigest = &apiError{status: http.StatusBadRequest, code: codeDigestInvalid,
		message: "missing digest: want sha256:<64 hexadecimal digits> or sha512:<128 hexadecimal digits>"}
	errBadQuery = &apiError{status: http.StatusBadRequest, code: codeUploadInvalid,
		message: "malformed query"}
	errDeleteDisabled = &apiError{status: http.StatusMethodNotAllowed, code: codeUnsupported,
		message: "this service does not allow blobs to be deleted", allow: "GET, HEAD"}
	errRangeLength = &apiError{status: http.StatusBadRequest, code: codeSizeInvalid,
		message: "Content-Range does not match the length of the body"}
	errIdle = &apiError{status: http.StatusRequestTimeout, code: codeUploadInvalid,
		message: "timed out waiting for the request body: resume at the Location header if present, otherwise start a new upload"}
	errBroken = &apiError{status: http.StatusBadRequest, code: codeUploadInvalid,
		message: "the request body is incomplete or malformed"}
	errInternal = &apiError{status: http.StatusInternalServerError, code: codeUnknown,
		message: "internal error"}
)

func notAllowed(allow string) error {
	return &apiError{status: http.StatusMethodNotAllowed, code: codeUnsupported, message: "method not allowed: want " + allow, allow: allow}
}

func badName(name, why string) error {
	return &apiError{status: http.StatusBadRequest, code: codeNameInvalid, message: fmt.Sprintf("repository name %.100q: %s", name, why)}
}

func badDigest(s string) error {
	return &apiError{status: http.StatusBadRequest, code: codeDigestInvalid,
		message: fmt.Sprintf("digest %.150q: want sha256:<64 hexadecimal digits> or sha512:<128 hexadecimal digits>", s)}
}

func wrongDigest(d digest.Digest) *apiError {
	return &apiError{status: http.StatusBadRequest, code: codeDigestInvalid,
		message: fmt.Sprintf("digest %s does not match the content", d)}
}

func badContentRange(header string) error {
	return &apiError{status: http.StatusBadRequest, code: codeUploadInvalid,
		message: fmt.Sprintf("Content-Range %.100q: want <first>-<last> or bytes <first>-<last>/*", header)}
}

func noSuchRange(size int64) *apiError {
	return &apiError{status: http.StatusRequestedRangeNotSatisfiable, code: codeRangeInvalid, inRange: fmt.Sprintf("bytes */%d", size),
		message: fmt.Sprintf("no such range in a blob of %d bytes: want bytes=<first>-<last>, bytes=<first>- or bytes=-<length>", size)}
}

const unavailable = "temporarily unavailable: try again later"

// table is the only place where errors of other packages become responses. The
// first row that matches an error applies.
var table = []struct {
	err      error
	response apiError
}{
	{access.ErrDenied, apiError{status: http.StatusForbidden, code: codeDenied,
		message: "access to this repository denied"}},
	{blobstore.ErrBlobUnknown, apiError{status: http.StatusNotFound, code: codeBlobUnknown,
		message: "blob unknown to this repository"}},
	{blobstore.ErrBlobUploadUnknown, apiError{status: http.StatusNotFound, code: codeUploadUnknown,
		message: "upload unknown: it was never started here, or was finished, cancelled or lost, or has expired; start a new upload"}},
	{blobstore.ErrOutOfOrder, apiError{status: http.StatusRequestedRangeNotSatisfiable, code: codeUploadInvalid,
		message: "the chunk does not start where the upload ends: resume at the Location header, after the bytes in the Range header"}},
	{blobstore.ErrBlobDigestUnsupported, apiError{status: http.StatusBadRequest, code: codeDigestInvalid,
		message: "unsupported digest algorithm: want sha256 or sha512"}},
	{blobstore.ErrBlobInvalidLength, apiError{status: http.StatusBadRequest, code: codeSizeInvalid,
		message: "the length of the body differs from Content-Range or Content-Length"}},
	{blobstore.ErrTooLarge, apiError{status: http.StatusRequestEntityTooLarge, code: codeSizeInvalid,
		message: "the blob is larger than this service accepts"}},
	{blobstore.ErrTooMany, apiError{status: http.StatusTooManyRequests, code: codeTooManyRequests,
		message: "too many uploads in progress: try again later", retryAfter: retryAfterTooMany}},
	{blobstore.ErrFull, apiError{status: http.StatusInsufficientStorage, code: codeUnavailable,
		message: "the store is full: ask the operator of this service to make room, then resume the upload"}},
	{blobstore.ErrUnavailable, apiError{status: http.StatusServiceUnavailable, code: codeUnavailable,
		message: unavailable, retryAfter: retryAfterUnavailable}},
	// The request reached its time limit, or the store did not respond.
	{context.DeadlineExceeded, apiError{status: http.StatusServiceUnavailable, code: codeUnavailable,
		message: unavailable, retryAfter: retryAfterUnavailable}},
}

// responseTo returns the response to a request that failed with err. An error
// that is not in the table is a failure of this service or its store. The
// response has no details of it.
func responseTo(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	if e, ok := errors.AsType[blobstore.ErrBlobInvalidDigest](err); ok && !errors.Is(err, blobstore.ErrBlobDigestUnsupported) {
		return wrongDigest(e.Digest)
	}
	if e, ok := errors.AsType[blobstore.ErrRange](err); ok {
		return noSuchRange(e.Size)
	}
	for i := range table {
		if errors.Is(err, table[i].err) {
			return &table[i].response
		}
	}
	return errInternal
}

// write sends the response in the format of the specification.
func (e *apiError) write(w http.ResponseWriter, requestID string) {
	type entry struct {
		Code    string            `json:"code"`
		Message string            `json:"message"`
		Detail  map[string]string `json:"detail,omitempty"`
	}
	body := entry{Code: e.code, Message: e.message}
	if e.status >= 500 {
		body.Detail = map[string]string{"requestId": requestID}
	}
	var p bytes.Buffer
	enc := json.NewEncoder(&p)
	enc.SetEscapeHTML(false)                             // for human readers
	_ = enc.Encode(map[string][]entry{"errors": {body}}) // strings can always be encoded
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(p.Len()))
	h.Set("Cache-Control", "no-store") // an unknown blob may be pushed at any time
	if e.allow != "" {
		h.Set("Allow", e.allow)
	}
	if e.inRange != "" {
		h.Set("Content-Range", e.inRange)
	}
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	w.WriteHeader(e.status)
	_, _ = w.Write(p.Bytes()) // an error means that the client has disconnected
}
