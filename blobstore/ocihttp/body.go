package ocihttp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/internal/header"
)

// wholeBody returns the body of a request that has no Content-Range. A Read of it
// returns idle if the client is idle for too long, and broken if the client
// disconnects or the encoding of the body is invalid.
func (h *handler) wholeBody(w http.ResponseWriter, r *http.Request, idle, broken error) blobstore.Body {
	reader := &idleReader{from: r.Body, control: http.NewResponseController(w), timeout: h.cfg.IdleTimeout, idle: idle, broken: broken}
	return blobstore.Body{Reader: reader, Length: r.ContentLength, Start: -1, Interrupt: reader.interrupt}
}

// body returns the body of a request of an upload.
func (h *handler) body(w http.ResponseWriter, r *http.Request) (blobstore.Body, error) {
	b := h.wholeBody(w, r, errIdle, errBroken)
	contentRange := r.Header.Get("Content-Range")
	// Some clients send a Content-Range with a final PUT that has no body.
	if contentRange == "" || r.ContentLength == 0 && r.Method == http.MethodPut {
		return b, nil
	}
	s, ok := header.ParseContentRange(contentRange)
	if !ok {
		return b, badContentRange(contentRange)
	}
	if b.Length >= 0 && b.Length != s.Len() {
		return b, errRangeLength
	}
	b.Start, b.Length = s.Start, s.Len()
	return b, nil
}

// idleReader reads a request's body. The client may be slow, but must not be
// idle for longer than the timeout: the timeout applies to each Read.
type idleReader struct {
	from    io.Reader
	control *http.ResponseController
	timeout time.Duration

	idle, broken error // of a Read; see wholeBody

	mu          sync.Mutex
	deadline    time.Time // the last one set
	interrupted bool
}

func (r *idleReader) Read(b []byte) (int, error) {
	r.extend()
	n, err := r.from.Read(b)
	switch {
	case err == io.EOF:
		r.end()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%w: %w", r.idle, err)
	case err != nil:
		err = fmt.Errorf("%w: %w", r.broken, err)
	}
	return n, err
}

// extend moves the deadline, if less than half of the timeout remains. Setting a
// deadline before each Read would be a measurable cost.
func (r *idleReader) extend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); !r.interrupted && r.deadline.Sub(now) < r.timeout/2 {
		r.deadline = now.Add(r.timeout)
		_ = r.control.SetReadDeadline(r.deadline) // a connection without deadlines, as in tests, is never idle
	}
}

// end removes the deadline. After the body, net/http reads from the connection to
// detect that the client disconnects, and the request may still take long.
func (r *idleReader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.control.SetReadDeadline(time.Time{})
}

// interrupt ends the current Read and fails all later ones.
func (r *idleReader) interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.interrupted = true
	_ = r.control.SetReadDeadline(time.Unix(1, 0))
}
