package main

import (
	"io"
	"net/http"
	"os"
	"time"
)

const (
	// answerTimeout limits how long writing answerStretch bytes of an answer may
	// take before the connection is dropped. The kernel's buffer, of some
	// megabytes, must drain by a third before it accepts more. A client that
	// reads 4 kB a second is safe.
	answerStretch = 256 << 10 // bytes
	answerTimeout = 10 * time.Minute

	// Answers that do not come from files are copied through buffers of this
	// size, for up to largeBuffers answers at a time. With the buffers of io.Copy
	// they take a fifth more CPU time.
	largeBuffer  = 128 << 10 // bytes
	largeBuffers = 64
)

// timed returns a handler that sets a deadline for each stretch of an answer.
// Writes fail if the client does not read the answer, and once the request has
// lasted for most.
func timed(next http.Handler, most time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&timedWriter{w, http.NewResponseController(w), time.Now().Add(most)}, r)
	})
}

// timedWriter is a ResponseWriter with a deadline for each stretch of an answer.
type timedWriter struct {
	http.ResponseWriter

	control *http.ResponseController
	last    time.Time
}

func (w *timedWriter) extend() {
	at := time.Now().Add(answerTimeout)
	if at.After(w.last) {
		at = w.last
	}
	_ = w.control.SetWriteDeadline(at) // if it fails, the server's deadline applies
}

func (w *timedWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		w.extend()
		var wrote int
		wrote, err = w.ResponseWriter.Write(p[:min(len(p), answerStretch)])
		n, p = n+wrote, p[wrote:]
	}
	return n, err
}

// ReadFrom sends a file in one io.LimitedReader in stretches, so that the
// connection can use sendfile(2). It copies other readers through a buffer.
func (w *timedWriter) ReadFrom(r io.Reader) (total int64, err error) {
	whole, ok := r.(*io.LimitedReader)
	if ok {
		_, ok = whole.R.(*os.File)
	}
	if _, kernel := w.ResponseWriter.(io.ReaderFrom); !ok || !kernel { // HTTP/2 sends frames; other readers may be slow, which must not count against the client
		return lent.copy(struct{ io.Writer }{w}, r)
	}
	for {
		w.extend()
		stretch := &io.LimitedReader{R: whole.R, N: min(whole.N, answerStretch)}
		n, err := io.Copy(w.ResponseWriter, stretch)
		total, whole.N = total+n, whole.N-n
		if err != nil || stretch.N > 0 || whole.N == 0 {
			return total, err
		}
	}
}

// Unwrap is for [http.ResponseController].
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// buffers is a pool of buffers for copies. A nil buffer is not allocated yet.
type buffers chan []byte

var lent = newBuffers(largeBuffers)

func newBuffers(n int) buffers {
	b := make(buffers, n)
	for range n {
		b <- nil
	}
	return b
}

// copy is like io.Copy, with a large buffer if one is free.
func (b buffers) copy(w io.Writer, r io.Reader) (int64, error) {
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
