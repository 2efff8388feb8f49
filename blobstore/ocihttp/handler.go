// Package ocihttp serves a blobstore over the OCI Distribution API
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md).
//
// A request is first parsed into data (parse.go), which includes the permissions
// that it needs. They are checked in one place (authorize). One handler for each
// action then either writes a response or returns an error, and one table maps
// errors to responses (errors.go). A response is sent as soon as it is known,
// even to a client that is still sending its request's body (unread.go).
package ocihttp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/blobstore/activity"
)

// Config configures a handler. Its zero value is usable.
type Config struct {
	// Log receives failures of the service and of its store. It does not receive
	// requests that succeed, or that fail because of the client. Nil discards
	// the failures.
	Log *slog.Logger

	// PublicURL is the start of Location headers, such as
	// "https://registry.example.com". If it is empty, they are relative to the
	// request's host.
	PublicURL string

	// DisableDelete refuses DELETE of blobs, manifests and tags. DELETE of uploads is
	// still allowed.
	DisableDelete bool

	// Authorizer decides whether a request is allowed. Nil allows every request.
	Authorizer access.Authorizer

	// IdleTimeout is how long a client may send nothing in the middle of a
	// request's body. Zero is 2 minutes.
	IdleTimeout time.Duration
}

const defaultIdleTimeout = 2 * time.Minute

// RequestID is the header that identifies a request in its response and in the
// log. A handler around this one may set it on the response. Otherwise it is a
// random string.
const RequestID = "X-Request-Id"

type handler struct {
	store *blobstore.Store
	cfg   Config
	base  string // start of Location headers, without a slash at the end

	basePath  string // the path in base
	positions positions
	longLists longLists
}

// New returns a handler for all paths under /v2/. The caller must wrap it with
// [RespondFirst]. New returns an error if the configuration is invalid.
func New(store *blobstore.Store, cfg Config) (http.Handler, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = defaultIdleTimeout
	}
	h := &handler{store: store, cfg: cfg, base: strings.TrimSuffix(cfg.PublicURL, "/"), longLists: newLongLists()}
	if h.base != "" {
		u, err := url.Parse(h.base)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("ocihttp.Config.PublicURL: %q: want http:// or https:// followed by a host", cfg.PublicURL)
		}
		h.basePath = u.EscapedPath()
	}
	var err error
	h.positions, err = newPositions(store.DeriveKey("positions in lists of repositories"))
	return h, err
}

// ServeHTTP answers every request. After a panic it answers 500, or drops the
// connection if the response was started.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := w.Header().Get(RequestID)
	if id == "" {
		id = rand.Text()
		w.Header().Set(RequestID, id)
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	tracked := &trackingWriter{ResponseWriter: w}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p) //nolint:forbidigo // net/http's own way to drop a connection
		}
		h.cfg.Log.ErrorContext(r.Context(), "panic", "id", id, "panic", p, "stack", string(debug.Stack()))
		if tracked.started { // the client must not take what was sent for a complete response
			panic(http.ErrAbortHandler) //nolint:forbidigo // see above
		}
		errInternal.write(tracked, id)
	}()
	if err := h.serve(tracked, r); err != nil {
		h.fail(tracked, r, id, err)
	}
}

// serve either writes a response and returns nil, or writes nothing and returns
// an error.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	req, err := parse(r.Method, r.URL)
	req.describe(activity.Of(r.Context()))
	if err == nil {
		err = h.authorize(r.Context(), &req)
	}
	if err == nil {
		err = handlers[req.action](h, w, r, req)
	}
	if err != nil && req.isHead() {
		return headError(err)
	}
	return err
}

// handlers has a function for each action, which does what serve does.
var handlers = map[action]func(h *handler, w http.ResponseWriter, r *http.Request, req request) error{
	actVersion:        version,
	actGetBlob:        (*handler).serveBlob,
	actHeadBlob:       (*handler).serveBlob,
	actDeleteBlob:     (*handler).deleteBlob,
	actStartUpload:    (*handler).startUpload,
	actAppendUpload:   (*handler).appendUpload,
	actFinishUpload:   (*handler).finishUpload,
	actUploadStatus:   (*handler).uploadStatus,
	actCancelUpload:   (*handler).cancelUpload,
	actGetManifest:    (*handler).serveManifest,
	actHeadManifest:   (*handler).serveManifest,
	actPutManifest:    (*handler).putManifest,
	actDeleteManifest: (*handler).deleteManifest,
	actListTags:       (*handler).listTags,
	actListReferrers:  (*handler).listReferrers,
	actCatalog:        (*handler).listCatalog,
}

// repository returns the repository of a request.
func (h *handler) repository(req request) *blobstore.Repository {
	repo := h.store.Repository(req.name)
	if req.readOnly {
		return repo.ReadOnly()
	}
	return repo
}

// authorize returns an error if the request must be refused. It and mayPull are the
// only places that check permissions.
//
// A mount from a repository that the caller may not pull from becomes a plain upload,
// as if the repository did not have the blob. A HEAD by a caller who may not push only
// reads.
func (h *handler) authorize(ctx context.Context, req *request) error {
	if h.cfg.Authorizer == nil {
		return nil
	}
	need, ok := req.access()
	if !ok {
		return errInternal
	}
	optional, err := h.cfg.Authorizer.Authorize(ctx, need)
	if err != nil {
		return err
	}
	if !optional && !need.Optional.IsZero() {
		req.mount, req.from = "", ""
		req.readOnly = true
	}
	return nil
}

// mayPull reports whether the caller may pull from a repository that the request does
// not name.
func (h *handler) mayPull(ctx context.Context, name repository) (bool, error) {
	if h.cfg.Authorizer == nil {
		return true, nil
	}
	ok, err := h.cfg.Authorizer.Authorize(ctx, access.Need{Optional: name.access(access.Pull)})
	if errors.Is(err, access.ErrDenied) {
		return false, nil
	}
	return ok, err
}

// fail writes the response to a request that failed.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, id string, err error) {
	e := responseTo(err)
	if e.status >= 500 && !errors.Is(err, context.Canceled) {
		h.cfg.Log.ErrorContext(r.Context(), "request failed", "id", id, "method", r.Method, "path", r.URL.Path,
			"status", e.status, "error", err)
	}
	e.write(w, id)
}

// trackingWriter is a ResponseWriter that records whether the response was
// started, which net/http does not report.
type trackingWriter struct {
	http.ResponseWriter

	started bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *trackingWriter) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *trackingWriter) Write(p []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(p)
}

// ReadFrom lets net/http send files with sendfile(2).
func (w *trackingWriter) ReadFrom(r io.Reader) (int64, error) {
	w.started = true
	return io.Copy(w.ResponseWriter, r)
}

// Unwrap is for [http.ResponseController].
func (w *trackingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// version answers that the API is supported.
func version(_ *handler, w http.ResponseWriter, r *http.Request, _ request) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "2")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte("{}")) // an error means that the client has disconnected
	}
	return nil
}

// serveBlob handles GET and HEAD of a blob.
func (h *handler) serveBlob(w http.ResponseWriter, r *http.Request, req request) error {
	return h.repository(req).ServeBlob(r.Context(), w, r, req.digest)
}

func (h *handler) deleteBlob(w http.ResponseWriter, r *http.Request, req request) error {
	if h.cfg.DisableDelete {
		return deletionDisabled("GET, HEAD")
	}
	if err := h.store.Repository(req.name).Delete(r.Context(), req.digest); err != nil {
		return err
	}
	activity.Of(r.Context()).Add(blobEvent(activity.Delete, req, req.digest, blobstore.Descriptor{}))
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}
