// Package server serves the API over HTTP: it limits what slow clients cost, logs
// each request, answers health checks and pages of other origins, and stops
// without losing what uploads have received. A second listener is for the operator
// (admin.go): metrics, profiles and health checks.
//
// A request passes through these handlers, from the outside in:
// [ocihttp.RespondFirst], which sends responses that are known before the body has
// arrived; the access log; health checks; CORS; the API. Below RespondFirst there
// is one ResponseWriter for all of them. It counts what is sent and limits how
// long a client may take to read it.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/berthhq/berth/blobstore/ocihttp"
)

// Config describes a service. Every function and the log are required.
type Config struct {
	// API answers all requests except health checks and CORS preflights.
	API http.Handler

	// Ping reports whether the store answers, for /readyz.
	Ping func(context.Context) error

	// CutOff ends the remaining uploads and keeps what they have received. It is
	// called when Shutdown has passed.
	CutOff func()

	// ClientAddr returns the address of the client behind proxies, for the log,
	// or the zero Addr if it is unknown. The log then has the address of the peer.
	ClientAddr func(*http.Request) netip.Addr

	Log *slog.Logger

	// Begin, if not nil, is called when a request starts. It returns the context for
	// the handlers, and the id of the request's trace for the log, which may be empty.
	Begin func(*http.Request) (context.Context, string)

	// End, if not nil, is called once for each request when it has ended, with the
	// context of Begin. The connection serves no other request until it returns.
	End func(context.Context, Exchange)

	Admin Admin

	H2C  bool // serve HTTP/2 without TLS too
	CORS CORS

	RequestLimit time.Duration // how long a request may last
	MaxBody      int64         // bytes of a body; zero is no limit

	Drain    time.Duration // how long requests are accepted after the context of Serve ends
	Shutdown time.Duration // how long the remaining requests may continue after Drain
}

const (
	// headerTimeout limits how long a client may take to send the header of a
	// request. Bodies have no such limit here, because large bodies are slow and
	// the API limits slow clients itself.
	headerTimeout = 15 * time.Second

	// idleTimeout limits how long a connection may be idle between requests.
	// Clients and proxies keep connections for about a minute.
	idleTimeout = 2 * time.Minute

	maxHeader = 64 << 10 // bytes

	// cutoffTimeout limits how long requests may take to end after they were cut
	// off. In this time they store what uploads have sent, and answer.
	cutoffTimeout = 10 * time.Second
)

// Serve accepts requests until ctx ends, and for cfg.Drain after that. Then it
// lets the remaining requests continue for cfg.Shutdown, cuts them off, and after
// cutoffTimeout closes the connections that are still open.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	ready := newReadiness(cfg.Ping, cfg.Log)
	server := newServer(ctx, reading, &cfg, ready)
	failed := make(chan error, 2)
	if cfg.Admin.Listener != nil {
		admin := newAdminServer(ctx, &cfg, ready)
		defer func() { _ = admin.Close() }() // its requests only read
		go func() {
			if err := admin.Serve(cfg.Admin.Listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("admin listener: %w", err)
			}
		}()
	}
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}

	cfg.Log.Info("stopping", "drain", cfg.Drain, "limit", cfg.Shutdown)
	select {
	case err := <-failed:
		return err
	case <-time.After(cfg.Drain): // /readyz answers 503 meanwhile
	}
	ctx = context.WithoutCancel(ctx)
	if shutdown(ctx, server, cfg.Shutdown) {
		return nil
	}
	cfg.Log.Warn("cutting off the requests that are left")
	stopReading()
	cfg.CutOff()
	if shutdown(ctx, server, cutoffTimeout) {
		return nil
	}
	cfg.Log.Warn("closing the connections that are left")
	return server.Close()
}

// newServer returns the server of a service. /readyz reports that the service is
// stopping once serving ends. Bodies of requests that were answered early are read
// until reading ends.
func newServer(serving, reading context.Context, cfg *Config, ready *readiness) *http.Server {
	api := crossOrigin(cfg.API, cfg.CORS)
	handler := logged(health(serving, api, ready), cfg)
	return &http.Server{
		Handler: ocihttp.RespondFirst(reading, handler,
			ocihttp.Unread{AcceptedTime: cfg.RequestLimit, AcceptedBytes: cfg.MaxBody}),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      cfg.RequestLimit + cutoffTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		Protocols:         protocols(cfg.H2C),
		HTTP2:             http2Config(),
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
}

// shutdown waits for requests to end, for at most limit, and reports whether all
// of them ended.
func shutdown(ctx context.Context, server *http.Server, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return !errors.Is(server.Shutdown(ctx), context.DeadlineExceeded)
}
