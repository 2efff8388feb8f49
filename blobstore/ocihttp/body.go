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
)

// body makes the body of a request one of an upload.
func (h *handler) body(w http.ResponseWriter, r *http.Request) (blobstore.Body, error) {
	p := &patient{from: r.Body, control: http.NewResponseController(w), timeout: h.cfg.IdleTimeout}
	b := blobstore.Body{Reader: p, Length: r.ContentLength, Start: -1, Interrupt: p.interrupt}
	header := r.Header.Get("Content-Range")
	// Some clients put a Content-Range on a final request without a body.
	if header == "" || r.ContentLength == 0 && r.Method == http.MethodPut {
		return b, nil
	}
	s, err := parseContentRange(header)
	if err != nil {
		return b, err
	}
	if b.Length >= 0 && b.Length != s.end-s.start {
		return b, errRangeLength
	}
	b.Start, b.Length = s.start, s.end-s.start
	return b, nil
}

// patient reads a body whose client may be slow, but not silent: each Read has
// the timeout to itself.
type patient struct {
	from    io.Reader
	control *http.ResponseController
	timeout time.Duration

	mu    sync.Mutex
	until time.Time // the deadline that is set
	cut   bool
}

func (p *patient) Read(b []byte) (int, error) {
	p.renew()
	n, err := p.from.Read(b)
	switch {
	case err == io.EOF:
		p.end()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%w: %w", errSilent, err)
	case err != nil:
		err = fmt.Errorf("%w: %w", errBroken, err)
	}
	return n, err
}

// renew gives the client its time. Setting a deadline costs little, but more
// than nothing: one in the second half of its time is renewed.
func (p *patient) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); !p.cut && p.until.Sub(now) < p.timeout/2 {
		p.until = now.Add(p.timeout)
		_ = p.control.SetReadDeadline(p.until) // where there are none, nobody is silent for long
	}
}

// end takes the deadline away: what follows the body takes as long as it takes,
// and net/http watches the connection meanwhile.
func (p *patient) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.control.SetReadDeadline(time.Time{})
}

// interrupt ends a Read that is under way, and every later one.
func (p *patient) interrupt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	_ = p.control.SetReadDeadline(time.Unix(1, 0))
}
