package blobhttp

import (
	"io"
	"net/http"
	"time"

	"github.com/berthhq/berth/blobstore"
)

// body makes the body of a request one of an upload.
func (h *handler) body(w http.ResponseWriter, r *http.Request) (blobstore.Body, error) {
	rc := http.NewResponseController(w)
	b := blobstore.Body{
		Reader: &patient{from: r.Body, control: rc, timeout: h.cfg.IdleTimeout},
		Length: r.ContentLength,
		Start:  -1,
		// A deadline in the past ends a Read that is under way.
		Interrupt: func() { _ = rc.SetReadDeadline(time.Unix(1, 0)) },
	}
	// Some clients put a Content-Range on a final request without a body.
	if header := r.Header.Get("Content-Range"); header != "" && r.ContentLength != 0 {
		s, err := parseContentRange(header)
		if err != nil {
			return b, err
		}
		if b.Length >= 0 && b.Length != s.end-s.start {
			return b, errRangeLength
		}
		b.Start, b.Length = s.start, s.end-s.start
	}
	return b, nil
}

// patient reads a body whose client may be slow, but not silent: each Read has
// the timeout to itself.
type patient struct {
	from    io.Reader
	control *http.ResponseController
	timeout time.Duration
	until   time.Time // the deadline that is set
}

func (p *patient) Read(b []byte) (int, error) {
	// Setting a deadline costs little, but more than nothing: one in the
	// second half of its time is renewed.
	if now := time.Now(); p.until.Sub(now) < p.timeout/2 {
		p.until = now.Add(p.timeout)
		_ = p.control.SetReadDeadline(p.until) // where there are none, nobody is silent for long
	}
	n, err := p.from.Read(b)
	if err == io.EOF { // what follows takes as long as it takes
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
