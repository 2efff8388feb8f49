package server

import (
	"io"
	"net/http"
	"os"
	"time"
)

const (
	// stretchTimeout limits how long writing a stretch of a response may take
	// before the connection is dropped. The kernel's buffer, of some megabytes,
	// must drain by a third before it accepts more. A client that reads 4 kB a
	// second is safe.
	stretch        = 256 << 10 // bytes
	stretchTimeout = 10 * time.Minute

	// Responses that do not come from files are copied through buffers of this
	// size, for up to largeBuffers responses at a time. With the buffers of io.Copy
	// they take a fifth more CPU time.
	largeBuffer  = 128 << 10 // bytes
	largeBuffers = 64
)

// response is the ResponseWriter of a request. It records the status and size of
// the response, and sets a deadline for each stretch of it: writes fail if the
// client does not read the response, and once the request has lasted too long.
type response struct {
	http.ResponseWriter

	control *http.ResponseController
	last    time.Time // no deadline is later
	buffers copyBuffers

	status int
	sent   int64 // bytes of the body
}

func newResponse(w http.ResponseWriter, last time.Time, buffers copyBuffers) *response {
	return &response{
		ResponseWriter: w,
		control:        http.NewResponseController(w),
		last:           last,
		buffers:        buffers,
		status:         http.StatusOK,
	}
}

func (w *response) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		w.extend()
		var wrote int
		wrote, err = w.ResponseWriter.Write(p[:min(len(p), stretch)])
		n, p = n+wrote, p[wrote:]
	}
	w.sent += int64(n)
	return n, err
}

// ReadFrom sends a file in an io.LimitedReader in stretches, so that the
// connection can use sendfile(2). It copies other readers through a buffer,
// because they may be slow, which must not count against the client. So does
// HTTP/2, which has no sendfile.
func (w *response) ReadFrom(r io.Reader) (int64, error) {
	limited, isLimited := r.(*io.LimitedReader)
	if _, kernel := w.ResponseWriter.(io.ReaderFrom); isLimited && kernel {
		if _, isFile := limited.R.(*os.File); isFile {
			return w.sendFile(limited)
		}
	}
	return w.buffers.copy(struct{ io.Writer }{w}, r)
}

func (w *response) sendFile(file *io.LimitedReader) (total int64, err error) {
	for {
		w.extend()
		part := &io.LimitedReader{R: file.R, N: min(file.N, stretch)}
		n, err := io.Copy(w.ResponseWriter, part)
		total, file.N = total+n, file.N-n
		w.sent += n
		if err != nil || part.N > 0 || file.N == 0 {
			return total, err
		}
	}
}

// extend sets the deadline for the next stretch.
func (w *response) extend() {
	at := time.Now().Add(stretchTimeout)
	if at.After(w.last) {
		at = w.last
	}
	_ = w.control.SetWriteDeadline(at) // if it fails, the server's deadline applies
}

// SetWriteDeadline is for [http.ResponseController]. All of the response must be sent by
// then, besides the deadlines of its stretches.
func (w *response) SetWriteDeadline(at time.Time) error {
	if at.Before(w.last) {
		w.last = at
	}
	return w.control.SetWriteDeadline(w.last)
}

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// copyBuffers is a pool of buffers for copies. A nil buffer is not allocated yet.
type copyBuffers chan []byte

func newCopyBuffers(n int) copyBuffers {
	b := make(copyBuffers, n)
	for range n {
		b <- nil
	}
	return b
}

// copy is like io.Copy, with a large buffer if one is free.
func (b copyBuffers) copy(w io.Writer, r io.Reader) (int64, error) {
	select {
	case buf := <-b:
		if buf == nil {
			buf = make([]byte, largeBuffer)
		}
		defer func() { b <- buf }()
		return io.CopyBuffer(w, r, buf)
	default:
		return io.Copy(w, r)
	}
}
