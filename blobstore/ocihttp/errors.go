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
)

// Error codes of the distribution specification
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes),
// and four that registries add.
const (
	codeBlobUnknown       = "BLOB_UNKNOWN"
	codeUploadInvalid     = "BLOB_UPLOAD_INVALID"
	codeUploadUnknown     = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid     = "DIGEST_INVALID"
	codeNameInvalid       = "NAME_INVALID"
	codeRangeInvalid      = "RANGE_INVALID"
	codeSizeInvalid       = "SIZE_INVALID"
	codeTooManyRequests   = "TOOMANYREQUESTS"
	codeUnsupported       = "UNSUPPORTED"
	codeUnavailable       = "UNAVAILABLE"
	codeUnknown           = "UNKNOWN"
	retryAfterUnavailable = 5 // seconds
	retryAfterTooMany     = 2 // seconds
)

// apiError is an answer that is not a success. Its message is for the client,
// and has nothing in it that the client must not know.
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
		message: "no such path: this service has /v2/ and /v2/<name>/blobs/"}
	errNoDigest = &apiError{status: http.StatusBadRequest, code: codeDigestInvalid,
		message: "digest: want one, as in ?digest=sha256:<64 hexadecimal digits>"}
	errBadQuery = &apiError{status: http.StatusBadRequest, code: codeUploadInvalid,
		message: "malformed query"}
	errDeleteDisabled = &apiError{status: http.StatusMethodNotAllowed, code: codeUnsupported,
		message: "deleting is disabled (delete.enabled)", allow: "GET, HEAD"}
	errRangeLength = &apiError{status: http.StatusBadRequest, code: codeSizeInvalid,
		message: "Content-Range and the length of the body disagree"}
	errSilent = &apiError{status: http.StatusRequestTimeout, code: codeUploadInvalid,
		message: "nothing came of the body for too long: go on with the Location given here, if there is one, or start again"}
	errBroken = &apiError{status: http.StatusBadRequest, code: codeUploadInvalid,
		message: "the body broke off before its end"}
	errNoRoute = &apiError{status: http.StatusInternalServerError, code: codeUnknown, message: "internal error"}
)

func notAllowed(allow string) error {
	return &apiError{status: http.StatusMethodNotAllowed, code: codeUnsupported, message: "want " + allow, allow: allow}
}

func badName(name, why string) error {
	return &apiError{status: http.StatusBadRequest, code: codeNameInvalid, message: fmt.Sprintf("repository name %.100q: %s", name, why)}
}

func badDigest(s string) error {
	return &apiError{status: http.StatusBadRequest, code: codeDigestInvalid,
		message: fmt.Sprintf("digest %.150q: want sha256:<64 hexadecimal digits> or sha512:<128>", s)}
}

func badRange(header string) error {
	return &apiError{status: http.StatusBadRequest, code: codeUploadInvalid,
		message: fmt.Sprintf("Content-Range %.100q: want <first>-<last>, or bytes <first>-<last>/*", header)}
}

// table is the one place where errors become answers. The first row that
// matches decides.
var table = []struct {
	is error
	as apiError
}{
	{blobstore.ErrBlobUnknown, apiError{status: http.StatusNotFound, code: codeBlobUnknown,
		message: "blob unknown to this repository"}},
	{blobstore.ErrBlobUploadUnknown, apiError{status: http.StatusNotFound, code: codeUploadUnknown,
		message: "upload unknown: it ended, expired, was lost, or never began here; start again"}},
	{blobstore.ErrOutOfOrder, apiError{status: http.StatusRequestedRangeNotSatisfiable, code: codeUploadInvalid,
		message: "the upload is not at this offset: go on at the one in the Range header, with the Location given here"}},
	{blobstore.ErrBlobDigestUnsupported, apiError{status: http.StatusBadRequest, code: codeDigestInvalid,
		message: "digest algorithm: want sha256 or sha512"}},
	{blobstore.ErrBlobInvalidLength, apiError{status: http.StatusBadRequest, code: codeSizeInvalid,
		message: "the body is not as long as Content-Range or Content-Length say"}},
	{blobstore.ErrTooLarge, apiError{status: http.StatusRequestEntityTooLarge, code: codeSizeInvalid,
		message: "the blob is too large for this service"}},
	{blobstore.ErrTooMany, apiError{status: http.StatusTooManyRequests, code: codeTooManyRequests,
		message: "too many uploads at once: try again later", retryAfter: retryAfterTooMany}},
	{blobstore.ErrFull, apiError{status: http.StatusInsufficientStorage, code: codeUnavailable,
		message: "the store is full: ask the operator of this service to make room, and then continue the upload where its status is"}},
	{blobstore.ErrUnavailable, apiError{status: http.StatusServiceUnavailable, code: codeUnavailable,
		message: unavailable, retryAfter: retryAfterUnavailable}},
	{context.DeadlineExceeded, apiError{status: http.StatusServiceUnavailable, code: codeUnavailable,
		message: unavailable, retryAfter: retryAfterUnavailable}}, // limits.request, or a store that didn't answer
}

const unavailable = "not possible at the moment: try again later"

// answerTo is the answer that an error becomes. What is not in the table is a
// failure of this service or its store, and says nothing to the client.
func answerTo(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	if e, ok := errors.AsType[blobstore.ErrBlobInvalidDigest](err); ok && !errors.Is(err, blobstore.ErrBlobDigestUnsupported) {
		return &apiError{status: http.StatusBadRequest, code: codeDigestInvalid, message: mismatch(e.Digest)}
	}
	if e, ok := errors.AsType[blobstore.ErrRange](err); ok {
		return noSuchRange(e.Size)
	}
	for i := range table {
		if errors.Is(err, table[i].is) {
			return &table[i].as
		}
	}
	return &apiError{status: http.StatusInternalServerError, code: codeUnknown, message: "internal error"}
}

func noSuchRange(size int64) *apiError {
	return &apiError{status: http.StatusRequestedRangeNotSatisfiable, code: codeRangeInvalid, inRange: fmt.Sprintf("bytes */%d", size),
		message: fmt.Sprintf("Range: the blob has %d bytes: want bytes=<first>-<last>, bytes=<first>-, or bytes=-<how many of the last>", size)}
}

func mismatch(d digest.Digest) string {
	return fmt.Sprintf("digest %s: it is not that of the content", d)
}

// write sends the error as the specification has it.
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
	enc.SetEscapeHTML(false)                             // people read it
	_ = enc.Encode(map[string][]entry{"errors": {body}}) // strings can be encoded
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(p.Len()))
	h.Set("Cache-Control", "no-store") // what is unknown now may come
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
	_, _ = w.Write(p.Bytes()) // there is nobody left to tell
}
