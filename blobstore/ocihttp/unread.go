package ocihttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// Unread limits how much of a request's body [RespondFirst] reads after the
// response was sent.
type Unread struct {
	// The limits after a response that is not a success (2xx): the rest of the
	// body is read for RejectedTime and up to RejectedBytes, unless the client
	// sends nothing for RejectedIdle. Zero is 30 seconds, 1 GiB and 5 seconds.
	RejectedTime  time.Duration
	RejectedBytes int64
	RejectedIdle  time.Duration

	// The limits after a success, which are those of a body that is stored: the
	// request may last for AcceptedTime in all, and its body may have
	// AcceptedBytes in all (zero is no limit), unless the client sends nothing
	// for AcceptedIdle (zero is 2 minutes).
	AcceptedTime  time.Duration
	AcceptedBytes int64
	AcceptedIdle  time.Duration
}

func (u Unread) withDefaults() Unread {
	orDefault := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orDefault(&u.RejectedTime, 30*time.Second)
	orDefault(&u.RejectedIdle, 5*time.Second)
	orDefault(&u.AcceptedIdle, defaultIdleTimeout)
	if u.RejectedBytes == 0 {
		u.RejectedBytes = 1 << 30
	}
	return u
}

// RespondFirst returns a handler that sends the responses of next as soon as they
// are complete, even if the request's body has not arrived yet. It then reads the
// rest of the body and discards it.
//
// Most proxies and many clients send a whole body before they read the response.
// If the server closes the connection while they send, the connection is reset:
// they report a broken pipe, or send 502, and the response is lost. So
// RespondFirst keeps the connection open until the client has sent its body or
// closes the connection, or until a limit is reached. After the end of a body the
// connection is reused; after a limit it is closed.
//
// Responses need a Content-Length, except those without a body. Otherwise the
// client sees their end only when the request's body ends. Over HTTP/2 that is
// always so, because net/http ends a response and resets the stream in one step.
// By RFC 9113, section 8.1, clients would still get the response, but proxies
// between HTTP/1.1 and HTTP/2 then close the connection to the client. Other
// clients stop sending when the response starts, and wait for its end. So the
// body is read over HTTP/2 as well, but with a shorter idle limit: RejectedIdle
// after a success; after any other response a fifth of it, until the client has
// sent more than was in transit.
//
// Reading ends when stop does. Its buffers are small: a client costs little more
// than its connection.
func RespondFirst(stop context.Context, next http.Handler, limits Unread) http.Handler {
	limits = limits.withDefaults()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		body := &trackingBody{ReadCloser: r.Body}
		first := &firstWriter{ResponseWriter: w, control: http.NewResponseController(w), request: r, body: body, limits: limits, start: time.Now()}
		// Without full duplex, net/http would read part of the body before it
		// sends the response, and close the connection if the body is longer.
		_ = first.control.EnableFullDuplex() // an error over HTTP/2, which is always full duplex
		inner := *r                          // a copy, because net/http uses the Body of its own request
		inner.Body = body
		next.ServeHTTP(first, &inner)
		if !body.ended {
			first.discardBody(stop)
		}
	})
}

// trackingBody is a body that records how much of it was read.
type trackingBody struct {
	io.ReadCloser

	read   int64
	ended  bool
	failed bool // a Read failed
}

func (b *trackingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	switch {
	case err == io.EOF:
		b.ended = true
	case err != nil:
		b.failed = true
	}
	return n, err
}

// firstWriter is a response that is sent before the request's body has arrived.
type firstWriter struct {
	http.ResponseWriter

	control *http.ResponseController
	request *http.Request
	body    *trackingBody
	limits  Unread
	start   time.Time // of the request
	status  int       // zero before the response is started
}

func (w *firstWriter) success() bool { return w.status >= 200 && w.status < 300 }

// WriteHeader implements [http.ResponseWriter]. It announces that the connection
// will be closed, if it is known that the body will not be read to its end.
func (w *firstWriter) WriteHeader(status int) {
	if status < 200 {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if w.status == 0 {
		w.status = status
		tooLong := !w.success() && w.request.ContentLength-w.body.read > w.limits.RejectedBytes
		if w.request.ProtoMajor == 1 && (tooLong || w.body.failed) {
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *firstWriter) ensureHeader() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
}

// Write implements [http.ResponseWriter].
func (w *firstWriter) Write(p []byte) (int, error) {
	w.ensureHeader()
	return w.ResponseWriter.Write(p)
}

// ReadFrom lets net/http send files with sendfile(2).
func (w *firstWriter) ReadFrom(r io.Reader) (int64, error) {
	w.ensureHeader()
	return io.Copy(w.ResponseWriter, r)
}

// Unwrap is for [http.ResponseController].
func (w *firstWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// discardBody sends the response, and then reads the rest of the body.
func (w *firstWriter) discardBody(stop context.Context) {
	if w.status == 0 { // the handler wrote nothing
		w.Header().Set("Content-Length", "0")
		w.ensureHeader()
	}
	// An empty Write sends nothing, but stops net/http from sending 100 Continue
	// when the body is read.
	_, _ = w.ResponseWriter.Write(nil)
	if err := w.control.Flush(); err != nil {
		return // the connection is gone
	}
	d := w.newDiscarder()
	d.small = w.request.ContentLength < 0 && w.request.ProtoMajor == 1
	err := d.discard(stop, w.body, w.control.SetReadDeadline)
	if err == nil {
		_ = w.control.SetReadDeadline(time.Time{})
		return
	}
	if w.request.ProtoMajor > 1 {
		return // net/http resets the stream, and the connection serves other requests
	}
	// What follows on this connection is the rest of the body. It must not be
	// read as a request.
	conn, buffered, hijackErr := w.control.Hijack()
	if hijackErr != nil {
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's own way to drop a connection
	}
	defer conn.Close()
	if !errors.Is(err, errLimit) {
		// The end of the body cannot be found, because its encoding is invalid
		// or was interrupted in the middle of a chunk. The client continues to
		// send it.
		d.idle, d.small = w.limits.RejectedIdle, false
		_ = d.discard(stop, buffered, conn.SetReadDeadline) // in any case the connection is closed
	}
}

// newDiscarder returns a discarder with the limits for this response.
func (w *firstWriter) newDiscarder() *discarder {
	http2 := w.request.ProtoMajor > 1
	if !w.success() {
		d := &discarder{until: time.Now().Add(w.limits.RejectedTime), idle: w.limits.RejectedIdle, left: w.limits.RejectedBytes, limited: true}
		if http2 {
			d.inTransit = streamWindow
		}
		return d
	}
	idle := w.limits.AcceptedIdle
	if http2 {
		idle = w.limits.RejectedIdle
	}
	d := &discarder{idle: idle, left: max(w.limits.AcceptedBytes-w.body.read, 0), limited: w.limits.AcceptedBytes > 0}
	if w.limits.AcceptedTime > 0 {
		d.until = w.start.Add(w.limits.AcceptedTime)
	}
	return d
}

// discarder reads the rest of a body, within limits, and discards it.
type discarder struct {
	until     time.Time // zero for never
	idle      time.Duration
	left      int64 // bytes
	limited   bool  // left is a limit
	small     bool  // a Read of the body returns only when its buffer is full
	inTransit int64 // bytes that may still arrive although the client has stopped sending; until then a fifth of idle is the limit

	from        io.Reader
	setDeadline func(time.Time) error
	stopped     func() error
}

// smallRead is the size of the reads of a chunked body, in bytes. net/http returns
// from a Read when its buffer is full or the chunk ends, and a slow client must
// not take longer than the idle limit for that.
const smallRead = 512

// streamWindow is the number of bytes that a client over HTTP/2 may have sent
// before it saw the response: the flow-control window of a stream.
const streamWindow = 1 << 20

// errLimit reports that a body reached a limit before its end.
var errLimit = errors.New("the body reached a limit")

// discard reads from until its end. It returns nil at the end of the body,
// errLimit at a limit or when stop ends, and otherwise the error of the body.
func (d *discarder) discard(stop context.Context, from io.Reader, setDeadline func(time.Time) error) error {
	d.from, d.setDeadline, d.stopped = from, setDeadline, stop.Err
	interrupted := make(chan struct{})
	disarm := context.AfterFunc(stop, func() {
		defer close(interrupted)
		_ = setDeadline(time.Unix(1, 0))
	})
	_, err := io.Copy(io.Discard, d) // its buffers are small and pooled
	if !disarm() {
		// net/http panics if a deadline is set after the handler has returned,
		// because the stream is gone.
		<-interrupted
	}
	return err
}

// Read implements [io.Reader] for discard.
func (d *discarder) Read(p []byte) (int, error) {
	idle := d.idle
	if d.inTransit > 0 {
		idle /= 5
	}
	deadline := time.Now().Add(idle)
	if !d.until.IsZero() && d.until.Before(deadline) {
		deadline = d.until
	}
	_ = d.setDeadline(deadline)
	if d.small {
		p = p[:min(len(p), smallRead)]
	}
	if d.limited {
		p = p[:min(int64(len(p)), d.left+1)]
	}
	if d.stopped() != nil { // if stop ends only now, discard sets the deadline once more
		return 0, errLimit
	}
	n, err := d.from.Read(p)
	d.left -= int64(n)
	d.inTransit -= int64(n)
	// After a chunked body has missed a deadline it cannot be read any more, even
	// if bytes arrived: it returns the error of an earlier Read, or bytes with
	// the error. That is not a limit.
	timedOut := errors.Is(err, os.ErrDeadlineExceeded) && n == 0 && !time.Now().Before(deadline)
	if timedOut || d.limited && d.left < 0 {
		err = errLimit
	}
	return n, err
}
