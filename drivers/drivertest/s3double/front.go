package s3double

import (
	"bytes"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxSkew is the largest allowed difference between the time of a request and
// the store's clock.
// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html
const maxSkew = 15 * time.Minute

// front is a front end of the store: a server with locks that exclude only its
// own requests.
type front struct {
	store  *Store
	region string
	own    *locks
}

// call is one request in progress at a front end.
type call struct {
	*Store // embedded for its contents

	knobs  Knobs
	own    *locks
	region string
	now    time.Time

	w         http.ResponseWriter
	r         *http.Request
	operation string
	bucket    string
	path      string // bucket/key
	body      []byte // of a request other than GET and HEAD
}

// Error returns the code and the message.
func (f Fault) Error() string { return f.Code + ": " + f.Message }

func fault(status int, code, message string) error {
	return Fault{Status: status, Code: code, Message: message}
}

// ServeHTTP serves a request.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	c := &call{Store: f.store, own: f.own, region: f.region, w: w, r: r, operation: operation(r, key), bucket: bucket, path: bucket + "/" + key}
	c.mu.Lock()
	c.knobs = c.Store.knobs
	c.seen = append(c.seen, Request{c.operation, key, r.Header.Clone(), r.RemoteAddr})
	known := c.buckets[bucket]
	c.mu.Unlock()
	c.now = time.Now().Add(c.knobs.Skew)
	if c.knobs.Lag == 0 || r.Header.Get(ConsistentHeader) == "true" {
		c.region = "a"
	} else if to := r.Header.Get(RegionHeader); to != "" {
		c.region = to
	}
	w.Header().Set("Date", c.now.UTC().Format(http.TimeFormat))
	w.Header().Set("Server", "AmazonS3")
	if c.knobs.Server != "" {
		w.Header().Set("Server", c.knobs.Server)
	}
	w.Header().Set("X-Amz-Request-Id", rand.Text())
	if err := c.serve(known); err != nil {
		c.fail(err)
	}
}

func (c *call) serve(known bool) error {
	for _, name := range []string{c.operation, ""} {
		if f, ok := c.knobs.Faults[name]; ok {
			_, _ = io.Copy(io.Discard, c.r.Body)
			return f
		}
	}
	if err := authorize(c.r, c.now); err != nil {
		return err
	}
	if err := c.read(); err != nil {
		return err
	}
	if !known {
		return fault(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
	}
	serve := map[string]func() error{
		"PutObject": c.putObject, "GetObject": c.getObject, "HeadObject": c.getObject,
		"DeleteObject": c.deleteObject, "DeleteObjects": c.deleteObjects, "ListObjectsV2": c.listObjects,
		"CreateMultipartUpload": c.createUpload, "UploadPart": c.uploadPart, "CompleteMultipartUpload": c.completeUpload,
		"AbortMultipartUpload": c.abortUpload, "ListMultipartUploads": c.listUploads, "ListParts": c.listParts,
	}[c.operation]
	if serve == nil {
		return fault(http.StatusNotImplemented, "NotImplemented", "The double has no such operation")
	}
	return serve()
}

// read reads the body and compares it with the hash that the signature covers.
func (c *call) read() error {
	if c.r.ContentLength < 0 {
		return fault(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	}
	body := make([]byte, c.r.ContentLength)
	if _, err := io.ReadFull(c.r.Body, body); err != nil {
		return fault(http.StatusBadRequest, "IncompleteBody", err.Error())
	}
	c.body = body
	sent := c.r.Header.Get("X-Amz-Content-Sha256")
	if sent == unsignedPayload || sent == "" {
		if c.knobs.IgnoreChecksums && len(body) > 0 && c.r.Method == http.MethodPut {
			c.body = bytes.Clone(body)
			c.body[len(body)/2] ^= 1
		}
		return nil
	}
	if sent != hexSHA256(body) {
		return fault(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return nil
}

// operation returns the API's name for a request.
func operation(r *http.Request, key string) string {
	q := r.URL.Query()
	for _, named := range []struct {
		method, parameter, operation string
	}{
		{http.MethodPut, "uploadId", "UploadPart"},
		{http.MethodPost, "uploads", "CreateMultipartUpload"},
		{http.MethodPost, "uploadId", "CompleteMultipartUpload"},
		{http.MethodDelete, "uploadId", "AbortMultipartUpload"},
		{http.MethodPost, "delete", "DeleteObjects"},
		{http.MethodGet, "uploads", "ListMultipartUploads"},
		{http.MethodGet, "uploadId", "ListParts"},
		{http.MethodGet, "list-type", "ListObjectsV2"},
		{http.MethodGet, "versioning", "GetBucketVersioning"},
		{http.MethodGet, "lifecycle", "GetBucketLifecycleConfiguration"},
	} {
		if r.Method == named.method && q.Has(named.parameter) {
			return named.operation
		}
	}
	if key == "" {
		return ""
	}
	return map[string]string{
		http.MethodPut: "PutObject", http.MethodGet: "GetObject", http.MethodHead: "HeadObject", http.MethodDelete: "DeleteObject",
	}[r.Method]
}

// lock locks the key, with the lock that Knobs.Locks names, and returns the
// function that unlocks it.
func (c *call) lock() (unlock func()) {
	switch l := c.knobs.Locks; {
	case l == Shared, l == NoneForReplaces && c.r.Header.Get("If-Match") == "":
		return c.shared.lock(c.path)
	case l == Apart:
		return c.own.lock(c.path)
	default:
		return func() {}
	}
}

// checkConditions returns an error if the conditions of a write do not hold, or
// are not supported. If they hold, it waits for Knobs.Delay.
func (c *call) checkConditions() error {
	match, free := c.r.Header.Get("If-Match"), c.r.Header.Get("If-None-Match")
	if match == "" && free == "" {
		return nil
	}
	switch c.knobs.Conditions {
	case Unsupported:
		return fault(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented.")
	case Ignored:
		return nil
	}
	existing := c.get(c.region, c.path)
	switch {
	case match != "" && existing == nil:
		return fault(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	case match != "" && match != existing.etag, free != "" && existing != nil:
		return fault(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	}
	time.Sleep(c.knobs.Delay)
	return nil
}

// fail sends an error response.
func (c *call) fail(err error) {
	f, ok := errors.AsType[Fault](err)
	if !ok {
		f = Fault{Status: http.StatusInternalServerError, Code: "InternalError", Message: err.Error()}
	}
	maps.Copy(c.w.Header(), f.Header)
	c.respond(f.Status, struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: f.Code, Message: f.Message})
}

// respond sends a response with an XML body, or with the status only if body is
// nil.
func (c *call) respond(status int, body any) {
	var b bytes.Buffer
	if body != nil {
		b.WriteString(xml.Header)
		if err := xml.NewEncoder(&b).Encode(body); err != nil {
			status = http.StatusInternalServerError
		}
		c.w.Header().Set("Content-Type", "application/xml")
	}
	if status != http.StatusNoContent {
		c.w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	}
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(b.Bytes())
	}
}
