package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/config"
)

const (
	// headerTimeout limits how long a client may take to send the header of a
	// request. Bodies have no such limit here, because large bodies are slow and
	// the handler limits slow clients itself.
	headerTimeout = 15 * time.Second

	// idleTimeout limits how long a connection may be idle between requests.
	// Clients and proxies keep connections for about a minute.
	idleTimeout = 2 * time.Minute

	maxHeader = 64 << 10 // bytes

	// lastWords limits how long requests may take after they were cut off. In
	// this time they store what uploads have sent, and answer.
	lastWords = 10 * time.Second
)

// serveHTTP accepts requests until ctx ends, and for limits.Drain after that.
// Then it lets the remaining requests continue for limits.Shutdown, calls cut,
// which makes them end soon, and after lastWords closes the connections that are
// still open.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, cfg *config.Config, cut func(), log *slog.Logger) error {
	limits := cfg.Limits
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	server := &http.Server{
		// AnswerFirst covers all answers, not only those of the API.
		Handler: ocihttp.AnswerFirst(reading, timed(handler, limits.Request+lastWords),
			ocihttp.Unread{Request: limits.Request, Body: cfg.Upload.MaxBlobSize}),
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

// shutdown waits for requests to end, for at most limit, and reports whether all
// of them ended.
func shutdown(ctx context.Context, server *http.Server, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return !errors.Is(server.Shutdown(ctx), context.DeadlineExceeded)
}
