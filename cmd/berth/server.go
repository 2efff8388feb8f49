package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/berthhq/berth/blobstore/blobhttp"
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

	maxHeader = 64 << 10 // bytes

	// lastWords is how long requests may go on after they were cut off: they
	// store what uploads have sent, and answer.
	lastWords = 10 * time.Second
)

// serveHTTP answers requests until ctx ends, and for limits.Drain after that.
// Then it accepts no more, lets requests continue for limits.Shutdown, calls cut,
// which makes those that are left end soon, and closes what is still open.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, cfg *config.Config, cut func(), log *slog.Logger) error {
	limits := cfg.Limits
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	server := &http.Server{
		// Every answer is in AnswerFirst, not those of the API alone.
		Handler: blobhttp.AnswerFirst(reading, timed(handler, limits.Request+lastWords),
			blobhttp.Unread{Request: limits.Request, Body: cfg.Upload.MaxBlobSize}),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      limits.Request + lastWords,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		Protocols:         protocols(cfg.Listen),
		HTTP2:             http2Config(),
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}

	log.Info("stopping", "drain", limits.Drain, "limit", limits.Shutdown)
	select {
	case err := <-failed:
		return err
	case <-time.After(limits.Drain): // /readyz answers 503 meanwhile
	}
	ctx = context.WithoutCancel(ctx)
	if shutdown(ctx, server, limits.Shutdown) {
		return nil
	}
	log.Warn("cutting off the requests that are left")
	stopReading()
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
