package ocihttp

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
)

// dialPipe connects to l.
func dialPipe(l *ocihttptest.Pipes) *wire {
	c := l.Dial()
	return &wire{c, bufio.NewReader(c)}
}

// inBubble serves next with these limits in a synctest bubble, and calls do there.
func inBubble(t *testing.T, next http.Handler, limits Unread, do func(t *testing.T, l *ocihttptest.Pipes, stop context.CancelFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := ocihttptest.NewPipes()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		s := &http.Server{
			Handler:     RespondFirst(ctx, next, limits),
			IdleTimeout: time.Minute, ReadHeaderTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		}
		var serving sync.WaitGroup
		serving.Go(func() { _ = s.Serve(l) })
		defer serving.Wait()
		defer func() { _ = s.Close() }()
		do(t, l, stop)
	})
}

// sendUntilClosed sends a piece of a body repeatedly, with a pause after each,
// until the connection is closed, and returns how long that took. The piece has
// the form of a request, and must never be handled as one.
func (w *wire) sendUntilClosed(t *testing.T, pause, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	closed := make(chan time.Duration, 1)
	go func() {
		p, _ := io.ReadAll(w.r) // until the connection is closed
		if len(p) > 0 {
			t.Errorf("part of the body was read as a request: %q", p)
		}
		closed <- time.Since(start)
	}()
	for time.Since(start) < limit {
		if _, err := io.WriteString(w, "GET /?200 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			break
		}
		time.Sleep(pause)
	}
	w.Close()
	return <-closed
}
