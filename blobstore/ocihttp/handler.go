// Package ocihttp serves a blobstore by the blob half of the OCI Distribution
// API (https://github.com/opencontainers/distribution-spec/blob/main/spec.md).
//
// A request becomes data first (parse.go); a handler for each action returns an
// error, or has answered; one table makes answers of errors (errors.go). An
// answer is sent as soon as it is known, and reaches clients that are still
// sending their body (unread.go).
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
)

// Config says how the API is served. The zero value is usable.
type Config struct {
	// Log takes failures; nil discards them. Requests that succeed, or that
	// their client got wrong, are not logged here.
	Log *slog.Logger

	// PublicURL is what Location headers begin with, as in
	// "https://registry.example.com"; if it is empty they are relative to the
	// request's host.
	PublicURL string

	// DisableDelete makes DELETE of blobs an error. Uploads can be cancelled
	// all the same.
	DisableDelete bool

	// MayMount, if not nil, lets a client mount a blob without saying out of
	// which repository: any that has the blob will do, and for which this is
	// true. It says whether whoever makes the request with this context may
	// read the repository, whose name the client doesn't learn. It is asked up
	// to a thousand times for one request.
	MayMount func(ctx context.Context, repository string) bool

	// IdleTimeout is how long a client may go without sending a byte of a body
	// that it began. Zero is 2 minutes.
	IdleTimeout time.Duration
}

const defaultIdleTimeout = 2 * time.Minute

// RequestID is the header that names a request in an answer and in the log. A
// handler around this one may set it on the answer; else this one draws one.
const RequestID = "X-Request-Id"

type handler struct {
	store *blobstore.Store
	cfg   Config
	base  string // of Location headers, without a slash at the end
}

// New returns a handler for everything under /v2/, which is to be served by
// [AnswerFirst]. An error names what is wrong with the configuration.
func New(store *blobstore.Store, cfg Config) (http.Handler, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = defaultIdleTimeout
	}
	h := &handler{store: store, cfg: cfg, base: strings.TrimSuffix(cfg.PublicURL, "/")}
	if h.base != "" {
		u, err := url.Parse(h.base)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("public_url: %q: want http:// or https:// and a host", cfg.PublicURL)
		}
	}
	return h, nil
}

// ServeHTTP answers, whatever happens: a panic becomes an answer too.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := w.Header().Get(RequestID)
	if id == "" {
		id = rand.Text()
		w.Header().Set(RequestID, id)
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	answer := &answer{ResponseWriter: w}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p) //nolint:forbidigo // net/http's own way to drop a connection
		}
		h.cfg.Log.ErrorContext(r.Context(), "panic", "id", id, "panic", p, "stack", string(debug.Stack()))
		if answer.begun { // what was sent must not pass for an answer
			panic(http.ErrAbortHandler) //nolint:forbidigo // see above
		}
		errNoRoute.write(answer, id)
	}()
	if err := h.serve(answer, r); err != nil {
		h.fail(answer, r, id, err)
	}
}

// serve answers, or returns an error and has written nothing.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	req, err := parse(r.Method, r.URL)
	if err != nil {
		return err
	}
	switch req.action {
	case actVersion:
		return version(w, r)
	case actGetBlob:
		return h.store.Repository(req.name).ServeBlob(r.Context(), w, r, req.digest)
	case actDeleteBlob:
		return h.deleteBlob(w, r, req)
	case actStartUpload:
		return h.startUpload(w, r, req)
	case actStatus:
		return h.status(w, r, req)
	case actAppend:
		return h.appendUpload(w, r, req)
	case actFinish:
		return h.finishUpload(w, r, req)
	case actCancel:
		return h.cancel(w, r, req)
	default:
		return errNoRoute
	}
}

func (h *handler) fail(w http.ResponseWriter, r *http.Request, id string, err error) {
	e := answerTo(err)
	if e.status >= 500 && !errors.Is(err, context.Canceled) {
		h.cfg.Log.ErrorContext(r.Context(), "request failed", "id", id, "method", r.Method, "path", r.URL.Path,
			"status", e.status, "error", err)
	}
	e.write(w, id)
}

// answer remembers whether one was begun.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (a *answer) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// ReadFrom keeps the way open that files take to a connection, sendfile(2).
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	a.begun = true
	return io.Copy(a.ResponseWriter, r)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func version(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "2")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte("{}")) // the client may be gone
	}
	return nil
}

func (h *handler) deleteBlob(w http.ResponseWriter, r *http.Request, req request) error {
	if h.cfg.DisableDelete {
		return errDeleteDisabled
	}
	if err := h.store.Repository(req.name).Delete(r.Context(), req.digest); err != nil {
		return err
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}
