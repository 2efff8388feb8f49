package ocihttp

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener for connections within the process, so that they can be
// used in a synctest bubble.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	close(l.closed)
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipes) dial() *wire {
	client, server := net.Pipe()
	l.accept <- server
	return &wire{client, bufio.NewReader(client)}
}

// inBubble serves next with these limits in a synctest bubble, and calls do there.
func inBubble(t *testing.T, next http.Handler, limits Unread, do func(t *testing.T, l *pipes, stop context.CancelFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		s := &http.Server{
			Handler:     AnswerFirst(ctx, next, limits),
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
// the form of a request, and must never be answered as one.
func (w *wire) sendUntilClosed(t *testing.T, pause, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	closed := make(chan time.Duration, 1)
	go func() {
		p, _ := io.ReadAll(w.r) // until the connection is closed
		if len(p) > 0 {
			t.Errorf("part of the body was answered as a request: %q", p)
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
