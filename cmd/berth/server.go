package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/berthhq/berth/cmd/berth/config"
)

const (
	// A client that does not get its header sent in this time is not one.
	// Bodies have no such limit here: large ones are slow, and the handler
	// watches its clients itself.
	headerTimeout = 15 * time.Second

	// Connections between requests; clients and proxies keep them for a minute
	// or so.
	idleTimeout = 2 * time.Minute

	// A client that does not take a stretch of its answer in this time is gone.
	// The kernel's buffer, of some megabytes, must drain by a third before it
	// takes more: a client that takes 4 kB a second is safe.
	answerStretch = 256 << 10 // bytes
	answerTimeout = 10 * time.Minute

	maxHeader = 64 << 10 // bytes

	// lastWords is how long requests may go on after they were cut off: they
	// store what uploads have sent, and answer.
	lastWords = 10 * time.Second
)

// serveHTTP answers requests until ctx ends. Then it stops to accept, lets
// requests go on for limits.Shutdown, calls cut, which makes those that are
// left end soon, and closes what is open still.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, limits config.Limits, cut func(), log *slog.Logger) error {
	server := &http.Server{
		Handler:           timed(handler, limits.Request+lastWords),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      limits.Request + lastWords,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}

	log.Info("stopping", "limit", limits.Shutdown)
	ctx = context.WithoutCancel(ctx)
	if shutdown(ctx, server, limits.Shutdown) {
		return nil
	}
	log.Warn("cutting off the requests that are left")
	cut()
	if shutdown(ctx, server, lastWords) {
		return nil
	}
	log.Warn("closing the connections that are left")
	return server.Close()
}

// shutdown waits for requests to end, at most as long as limit, and reports
// whether they all did.
func shutdown(ctx context.Context, server *http.Server, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return !errors.Is(server.Shutdown(ctx), context.DeadlineExceeded)
}

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
	if !ok { // whose bytes may be long in coming, which is not the client's fault
		return io.Copy(struct{ io.Writer }{w}, r)
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
