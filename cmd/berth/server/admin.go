package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// Admin is the listener for the operator. Its zero value is none.
//
// It serves /metrics, /healthz, /readyz and /debug/pprof/. It has no authentication,
// so only the operator's network may reach it.
type Admin struct {
	Listener net.Listener
	Metrics  http.Handler // answers /metrics
}

// profileTimeout limits how long a response of the admin listener may take. A profile
// takes as long as its request asks for.
const profileTimeout = 10 * time.Minute

// newAdminServer returns the server of the admin listener.
func newAdminServer(serving context.Context, cfg *Config, ready *readiness) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", cfg.Admin.Metrics)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &http.Server{
		// A page in the operator's browser must not change anything here.
		Handler:           http.NewCrossOriginProtection().Handler(health(serving, mux, ready)),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      profileTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
}
