package main

import (
	"io"
	"net/http"
	"os"
	"time"
)

const (
	// A client that does not take a stretch of its answer in this time is gone.
	// The kernel's buffer, of some megabytes, must drain by a third before it
	// takes more: a client that takes 4 kB a second is safe.
	answerStretch = 256 << 10 // bytes
	answerTimeout = 10 * time.Minute

	// Answers that do not come from files go through buffers of this size, as
	// long as not too many do: with those that io.Copy makes they take a fifth
	// more of the processor.
	largeBuffer  = 128 << 10 // bytes
	largeBuffers = 64
)

// timed makes writes fail for clients that do not take their answer, at the
// latest when the request has lasted for most.
func timed(next http.Handler, most time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&timedWriter{w, http.NewResponseController(w), time.Now().Add(most)}, r)
	})
}

// timedWriter gives each stretch of an answer its time.
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
	_ = w.control.SetWriteDeadline(at) // without it there is the server's own
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

// ReadFrom keeps the way open that files take to a connection, sendfile(2): a
// file with one limit around it.
func (w *timedWriter) ReadFrom(r io.Reader) (total int64, err error) {
	whole, ok := r.(*io.LimitedReader)
	if ok {
		_, ok = whole.R.(*os.File)
	}
	if _, kernel := w.ResponseWriter.(io.ReaderFrom); !ok || !kernel { // HTTP/2 has frames, and other readers may take long, which is not the client's fault
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

// buffers are lent to those who copy; nil is one that is not made yet.
type buffers chan []byte

var lent = newBuffers(largeBuffers)

func newBuffers(n int) buffers {
	b := make(buffers, n)
	for range n {
		b <- nil
	}
	return b
}

// copy is io.Copy, with a large buffer if there is one.
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
