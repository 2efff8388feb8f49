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
	codeBlobUnknown         = "BLOB_UNKNOWN"
	codeUploadInvalid       = "BLOB_UPLOAD_INVALID"
	codeUploadUnknown       = "BLOB_UPLOAD_UNKNOWN"
	codeDenied              = "DENIED"
	codeDigestInvalid       = "DIGEST_INVALID"
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     = "MANIFEST_INVALID"
	codeManifestUnknown     = "MANIFEST_UNKNOWN"
	codeNameInvalid         = "NAME_INVALID"
	codeNameUnknown         = "NAME_UNKNOWN"
	codeSizeInvalid         = "SIZE_INVALID"
	codeTooManyRequests     = "TOOMANYREQUESTS"
	codeUnauthorized        = "UNAUTHORIZED"
	codeUnsupported         = "UNSUPPORTED"
)

// Error codes that other registries use as well, where the specification has
// none.
const (
	codeCountInvalid       = "PAGINATION_NUMBER_INVALID"
	codePreconditionFailed = "PRECONDITION_FAILED"
	codeRangeInvalid       = "RANGE_INVALID"
	codeTagInvalid         = "TAG_INVALID"
	codeUnavailable        = "UNAVAILABLE"
	codeUnknown            = "UNKNOWN"
)

// Values of Retry-After, in seconds.
const (
	retryAfterUnavailable = 5
	retryAfterTooMany     = 2
	retryAfterLogins      = 10
)

// apiError is an error response. Its message is sent to the client, so it holds
// nothing that is internal to the service.
type apiError struct {
	status     int
	code       string
	message    string
	missing    []digest.Digest // blobs and manifests that a manifest refers to
	allow      string          // Allow header
	inRange    string          // Content-Range header
	retryAfter int             // seconds; 0 for none
	challenge  string          // WWW-Authenticate header
}

func (e *apiError) Error() string { return e.message }

var (
	errNoSuchPath = &apiError{status: http.StatusNotFound, code: codeUnsupported,
		message: "unknown path: this service has /v2/, /v2/_catalog, and blobs, manifests, referrers and tags/list below /v2/<name>/"}
	errNoDigest = &apiError{status: http.StatusBadRequest, code: codeDigestInvalid,
		message: "missing digest: want sha256:<64 hexadecimal digits> or sha512:<128 hexadecimal digits>"}
	errNoSuchManifest = &apiError{status: http.StatusNotFound, code: codeManifestUnknown,
		message: "manifest unknown to this repository"}
	errTooManyTags = &apiError{status: http.StatusRequestURITooLong, code: codeTagInvalid,
		message: fmt.Sprintf("too many tags: want at most %d in one request", blobstore.MaxTags)}
	errBadCondition = &apiError{status: http.StatusBadRequest, code: codeUnsupported,
		message: `unsupported condition: want If-None-Match: * or If-Match: "<digest>", for a push to a tag`}
	errRangeLength = &apiError{status: http.StatusBadRequest, code: codeSizeInvalid,
		message: "Content-Range does not match the length of the body"}
	errIdle = &apiError{status: http.StatusRequestTimeout, code: codeUploadInvalid,
		message: "timed out waiting for the request body: resume at the Location header if present, otherwise start a new upload"}
	errBroken = &apiError{status: http.StatusBadRequest, code: codeUploadInvalid,
		message: "the request body is incomplete or malformed"}
	errManifestIdle = &apiError{status: http.StatusRequestTimeout, code: codeManifestInvalid,
		message: "timed out waiting for the request body: push the manifest again"}
	errManifestBroken = &apiError{status: http.StatusBadRequest, code: codeManifestInvalid,
		message: "the request body is incomplete or malformed"}
	errTooManyLists = &apiError{status: http.StatusTooManyRequests, code: codeTooManyRequests,
		message: "too many long lists are being sent: try again later, or ask for shorter pages with the parameter n", retryAfter: retryAfterTooMany}
	errUnavailable = &apiError{status: http.StatusServiceUnavailable, code: codeUnavailable,
		message: "temporarily unavailable: try again later", retryAfter: retryAfterUnavailable}
	errInternal = &apiError{status: http.StatusInternalServerError, code: codeUnknown,
		message: "internal error"}
)

func notAllowed(allow string) error {
	return &apiError{status: http.StatusMethodNotAllowed, code: codeUnsupported, message: "method not allowed: want " + allow, allow: allow}
}

func badQuery(code string) error {
	return &apiError{status: http.StatusBadRequest, code: code, message: "malformed query"}
}

func deletionDisabled(allow string) error {
	return &apiError{status: http.StatusMethodNotAllowed, code: codeUnsupported, message: "this service does not allow deletions", allow: allow}
}

func badCount(n string) error {
	return &apiError{status: http.StatusBadRequest, code: codeCountInvalid,
		message: fmt.Sprintf("n=%.20q: want the number of entries, 0 or more", n)}
}

func badTag(tag string) error {
	return &apiError{status: http.StatusBadRequest, code: codeTagInvalid,
		message: fmt.Sprintf("tag %.150q: want at most 128 letters, digits, underscores, periods and hyphens, and no period or hyphen at the start", tag)}
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

func badManifest(reason string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: codeManifestInvalid, message: "manifest invalid: " + reason}
}

func manifestTooLarge(most int64) *apiError {
	return &apiError{status: http.StatusRequestEntityTooLarge, code: codeManifestInvalid,
		message: fmt.Sprintf("the manifest is larger than %d bytes, which is the most that this service accepts", most)}
}

func missingContent(missing []digest.Digest) *apiError {
	return &apiError{status: http.StatusBadRequest, code: codeManifestBlobUnknown, missing: missing,
		message: "the manifest refers to blobs or manifests that this repository does not have: push the digests in the detail first"}
}

func noSuchRange(size int64) *apiError {
	return &apiError{status: http.StatusRequestedRangeNotSatisfiable, code: codeRangeInvalid, inRange: fmt.Sprintf("bytes */%d", size),
		message: fmt.Sprintf("no such range in a blob of %d bytes: want bytes=<first>-<last>, bytes=<first>- or bytes=-<length>", size)}
}

// table is the only place where errors of other packages become responses. The
// first row that matches an error applies.
var table = []struct {
	err      error
	response apiError
}{
	{access.ErrDenied, apiError{status: http.StatusForbidden, code: codeDenied,
		message: "access denied"}},
	{access.ErrTooMany, apiError{status: http.StatusTooManyRequests, code: codeTooManyRequests,
		message: "too many attempts to log in: try again later", retryAfter: retryAfterLogins}},
	{access.ErrUnavailable, *errUnavailable},
	{blobstore.ErrBlobUnknown, apiError{status: http.StatusNotFound, code: codeBlobUnknown,
		message: "blob unknown to this repository"}},
	{blobstore.ErrManifestUnknown, *errNoSuchManifest},
	{blobstore.ErrNameUnknown, apiError{status: http.StatusNotFound, code: codeNameUnknown,
		message: "repository unknown: no manifest was ever pushed to it"}},
	{blobstore.ErrTagChanged, apiError{status: http.StatusPreconditionFailed, code: codePreconditionFailed,
		message: "the tag does not meet the condition of the request"}},
	{blobstore.ErrTagImmutable, apiError{status: http.StatusConflict, code: codeTagInvalid,
		message: "the tag is immutable: neither it nor the manifest that it names can be replaced or deleted"}},
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
		message: "the store is full: ask the operator of this service to make room, then resume the upload or push again"}},
	{blobstore.ErrUnavailable, *errUnavailable},
	{context.DeadlineExceeded, *errUnavailable}, // the request reached its time limit, or the store did not respond
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
	if e, ok := errors.AsType[*access.UnauthenticatedError](err); ok {
		return &apiError{status: http.StatusUnauthorized, code: codeUnauthorized, message: e.Reason, challenge: e.Challenge}
	}
	if e, ok := errors.AsType[blobstore.ErrRange](err); ok {
		return noSuchRange(e.Size)
	}
	if e, ok := errors.AsType[blobstore.ErrManifestInvalid](err); ok {
		return badManifest(e.Reason)
	}
	if e, ok := errors.AsType[blobstore.ErrManifestTooLarge](err); ok {
		return manifestTooLarge(e.MaxSize)
	}
	if e, ok := errors.AsType[blobstore.ErrManifestBlobUnknown](err); ok {
		return missingContent(e.Digests)
	}
	for i := range table {
		if errors.Is(err, table[i].err) {
			return &table[i].response
		}
	}
	return errInternal
}

// headError returns the error of a HEAD that failed with err, which asks whether a blob
// or manifest exists. Any status except 200, 404 and 503 ends a push with containerd,
// and a response without a body cannot explain itself anyway. Only the refusals of an
// authorizer and of a condition stay what they are.
func headError(err error) error {
	switch e := responseTo(err); {
	case e.status == http.StatusBadRequest:
		return &apiError{status: http.StatusNotFound, code: e.code, message: e.message}
	case e.status >= 500 && e.status != http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %w", errUnavailable, err)
	default:
		return err
	}
}

// write sends the response in the format of the specification.
func (e *apiError) write(w http.ResponseWriter, requestID string) {
	type detail struct {
		RequestID string          `json:"requestId,omitempty"`
		Digests   []digest.Digest `json:"digests,omitempty"`
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  detail `json:"detail,omitzero"`
	}
	body := entry{Code: e.code, Message: e.message, Detail: detail{Digests: e.missing}}
	if e.status >= 500 {
		body.Detail.RequestID = requestID
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
	if e.challenge != "" {
		h.Set("WWW-Authenticate", e.challenge)
	}
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	w.WriteHeader(e.status)
	_, _ = w.Write(p.Bytes()) // an error means that the client has disconnected
}
