package ocihttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// Unread limits what is read of a request's body after its answer was sent.
type Unread struct {
	// After an answer that is not a success the rest of the body is read for
	// Time, as long as the client is not silent for Silence, up to Bytes. Zero
	// is 30 seconds, 5 seconds and 1 GiB.
	Time    time.Duration
	Silence time.Duration
	Bytes   int64

	// After a success the rest of the body is read to its end, within the limits
	// of a body that is stored: the client may be silent for Idle (zero is 2
	// minutes), the request may last for Request, and its body have Body bytes
	// (zero is no limit).
	Idle    time.Duration
	Request time.Duration
	Body    int64
}

func (u Unread) withDefaults() Unread {
	orElse := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orElse(&u.Time, 30*time.Second)
	orElse(&u.Silence, 5*time.Second)
	orElse(&u.Idle, defaultIdleTimeout)
	if u.Bytes == 0 {
		u.Bytes = 1 << 30
	}
	return u
}

// AnswerFirst returns a handler that sends the answers of next as soon as they
// are complete, also when the request's body has not come yet, and then reads
// the rest of the body and drops it.
//
// It exists because most proxies and many clients send a body to its end before
// they read an answer. A server that closes the connection while they send
// resets it, and they report a broken pipe, or answer 502, and the answer is
// lost. So the connection stays open until the client has sent its body or
// closes the connection, or until a limit ends it. At the end of a body the
// connection is used again; at a limit it is closed.
//
// Answers need a Content-Length, except those that have no body: otherwise their
// end comes with that of the request's body. Over HTTP/2 it always does, because
// net/http ends an answer and resets the stream in one. By RFC 9113, section 8.1,
// the answer would reach the client, but proxies between HTTP/1.1 and HTTP/2 close
// the client's connection then. Other clients stop sending when they see an
// answer, and wait for its end. So the body is read over HTTP/2 too, but a client
// may be silent for less: after a success for Silence, and after any other answer
// for a fifth of Silence until it has sent more than was on its way.
//
// When stop ends, so does the reading. The buffers that it takes are small: what
// a client costs here is little more than its connection.
func AnswerFirst(stop context.Context, next http.Handler, limits Unread) http.Handler {
	limits = limits.withDefaults()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		body := &arriving{ReadCloser: r.Body}
		first := &firstWriter{ResponseWriter: w, control: http.NewResponseController(w), request: r, body: body, limits: limits, began: time.Now()}
		// Without full duplex net/http would read of the body before it sends the
		// answer, and give up the connection of one that is longer.
		_ = first.control.EnableFullDuplex() // HTTP/2 always is
		inner := *r                          // net/http looks at the body of its own
		inner.Body = body
		next.ServeHTTP(first, &inner)
		if !body.ended {
			first.drop(stop)
		}
	})
}

// arriving remembers how far a body was read.
type arriving struct {
	io.ReadCloser

	read   int64
	ended  bool
	broken bool // a Read failed
}

func (b *arriving) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	switch {
	case err == io.EOF:
		b.ended = true
	case err != nil:
		b.broken = true
	}
	return n, err
}

// firstWriter is an answer that is sent before its request's body has come.
type firstWriter struct {
	http.ResponseWriter

	control *http.ResponseController
	request *http.Request
	body    *arriving
	limits  Unread
	began   time.Time
	status  int // zero until the answer begins
}

func (w *firstWriter) success() bool { return w.status >= 200 && w.status < 300 }

// WriteHeader announces the end of a connection whose body is known not to be
// read to its end.
func (w *firstWriter) WriteHeader(status int) {
	if status < 200 {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if w.status == 0 {
		w.status = status
		if tooMuch := !w.success() && w.request.ContentLength-w.body.read > w.limits.Bytes; w.request.ProtoMajor == 1 && (tooMuch || w.body.broken) {
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *firstWriter) begin() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
}

func (w *firstWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps the way open that files take to a connection, sendfile(2).
func (w *firstWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	return io.Copy(w.ResponseWriter, r)
}

// Unwrap is for [http.ResponseController].
func (w *firstWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// drop sends the answer, and then reads what there is still of the body.
func (w *firstWriter) drop(stop context.Context) {
	if w.status == 0 { // the handler has nothing to send
		w.Header().Set("Content-Length", "0")
		w.begin()
	}
	// This writes nothing, and net/http takes it for the sign that it must not
	// send 100 Continue any more.
	_, _ = w.ResponseWriter.Write(nil)
	if err := w.control.Flush(); err != nil {
		return // there is no connection any more
	}
	rest := w.rest()
	rest.small = w.request.ContentLength < 0 && w.request.ProtoMajor == 1
	err := rest.drop(stop, w.body, w.control.SetReadDeadline)
	if err == nil {
		_ = w.control.SetReadDeadline(time.Time{})
		return
	}
	if w.request.ProtoMajor > 1 {
		return // net/http tells the client to stop, and the connection serves other requests
	}
	// What comes next on this connection is no request: it must not be read as one.
	conn, buffered, hijackErr := w.control.Hijack()
	if hijackErr != nil {
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's own way to drop a connection
	}
	defer conn.Close()
	if !errors.Is(err, errEnough) {
		// The body can't be told from what follows it: its encoding is broken, or
		// was cut off in the middle of a chunk. Its client sends it all the same.
		rest.silence, rest.small = w.limits.Silence, false
		_ = rest.drop(stop, buffered, conn.SetReadDeadline) // the connection is closed, however it ends
	}
}

// rest is what may still come of the body.
func (w *firstWriter) rest() *rest {
	http2 := w.request.ProtoMajor > 1
	if !w.success() {
		r := &rest{until: time.Now().Add(w.limits.Time), silence: w.limits.Silence, left: w.limits.Bytes, limited: true}
		if http2 {
			r.hasty = onItsWay
		}
		return r
	}
	idle := w.limits.Idle
	if http2 {
		idle = w.limits.Silence
	}
	r := &rest{silence: idle, left: max(w.limits.Body-w.body.read, 0), limited: w.limits.Body > 0}
	if w.limits.Request > 0 {
		r.until = w.began.Add(w.limits.Request)
	}
	return r
}

// rest reads what is to be dropped of a body.
type rest struct {
	until   time.Time // zero is never
	silence time.Duration
	left    int64
	limited bool  // left counts
	small   bool  // a Read waits until it is full
	hasty   int64 // bytes until which a fifth of silence is enough

	from        io.Reader
	setDeadline func(time.Time) error
	stopped     func() error
}

// smallRead is what is read at once of a chunked body, in bytes: net/http waits
// until a Read is full, or the chunk at its end, which must not take a slow
// client longer than it may be silent.
const smallRead = 512

// onItsWay is how many bytes may come over HTTP/2 from a client that has stopped
// sending: what the window of a stream lets through.
const onItsWay = 1 << 20

// errEnough is what a body that goes beyond its limits ends with.
var errEnough = errors.New("enough of the body was dropped")

// drop returns nil if the body came to its end, errEnough at a limit and when
// stop has ended, and otherwise the error of the body.
func (r *rest) drop(stop context.Context, from io.Reader, setDeadline func(time.Time) error) error {
	r.from, r.setDeadline, r.stopped = from, setDeadline, stop.Err
	interrupted := make(chan struct{})
	keep := context.AfterFunc(stop, func() {
		defer close(interrupted)
		_ = setDeadline(time.Unix(1, 0))
	})
	_, err := io.Copy(io.Discard, r) // whose buffers are small, and pooled
	if !keep() {
		<-interrupted // after the handler net/http has no stream that could get a deadline, and panics
	}
	return err
}

func (r *rest) Read(p []byte) (int, error) {
	silence := r.silence
	if r.hasty > 0 {
		silence /= 5
	}
	at := time.Now().Add(silence)
	if !r.until.IsZero() && r.until.Before(at) {
		at = r.until
	}
	_ = r.setDeadline(at)
	if r.small {
		p = p[:min(len(p), smallRead)]
	}
	if r.limited {
		p = p[:min(int64(len(p)), r.left+1)]
	}
	if r.stopped() != nil { // before the deadline was set, or it is set once more
		return 0, errEnough
	}
	n, err := r.from.Read(p)
	r.left -= int64(n)
	r.hasty -= int64(n)
	// A chunked body that has missed a deadline can't be read any more, although
	// something may have come: it returns the error of an earlier Read, or bytes
	// with the error.
	silent := errors.Is(err, os.ErrDeadlineExceeded) && n == 0 && !time.Now().Before(at)
	if silent || r.limited && r.left < 0 {
		err = errEnough
	}
	return n, err
}
