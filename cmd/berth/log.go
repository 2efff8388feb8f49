package main

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/config"
)

// newLogger returns a logger to w with the form and level of cfg.
func newLogger(cfg config.Telemetry, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // config takes levels only
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: config.ReplaceAttr}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// Maximum lengths in the log of strings from clients, in bytes. A path with the
// longest name of a repository and a digest fits into loggedPath.
const (
	loggedMethod = 16
	loggedPath   = 512
	loggedAgent  = 256
)

// logged returns a handler that logs a line at the end of each request. It gives
// every request an id, which the answer contains too. It does not log queries,
// because they contain tokens, and logs health checks only at level debug.
// clientAddr returns the address of the client behind proxies, or the zero Addr
// if it is unknown. The log then has the address of the peer.
func logged(next http.Handler, clientAddr func(*http.Request) netip.Addr, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := rand.Text()
		w.Header().Set(ocihttp.RequestID, id)
		counted := &countedWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			client := r.RemoteAddr
			if addr := clientAddr(r); addr.IsValid() {
				client = addr.String()
			}
			level := slog.LevelInfo
			if isHealthPath(r.URL.Path) { // there is one every few seconds
				level = slog.LevelDebug
			}
			log.LogAttrs(r.Context(), level, "request",
				slog.String("id", id), slog.String("method", cut(r.Method, loggedMethod)), slog.String("path", cut(r.URL.Path, loggedPath)),
				slog.Int("status", counted.status), slog.Int64("sent", counted.bytes),
				slog.Duration("took", time.Since(start)), slog.String("client", client),
				slog.String("user_agent", cut(r.UserAgent(), loggedAgent)))
		}()
		next.ServeHTTP(counted, r)
	})
}

// cut returns s, cut off after at most most bytes without splitting a rune.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for range utf8.UTFMax - 1 {
		if utf8.RuneStart(s[most]) {
			break
		}
		most--
	}
	return s[:most] + "…"
}

// countedWriter is a ResponseWriter that records the status and size of the
// answer.
type countedWriter struct {
	http.ResponseWriter

	status int
	bytes  int64 // of the body
}

func (w *countedWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom copies with io.Copy, so that the connection can send files with
// sendfile(2).
func (w *countedWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, r)
	w.bytes += n
	return n, err
}

// Unwrap is for [http.ResponseController].
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
