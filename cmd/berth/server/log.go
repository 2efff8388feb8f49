package server

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/berthhq/berth/blobstore/ocihttp"
)

// Maximum lengths in the log of strings from clients, in bytes. A path with the
// longest name of a repository and a digest fits into maxLoggedPath.
const (
	maxLoggedMethod = 16
	maxLoggedPath   = 512
	maxLoggedAgent  = 256
)

// logged returns a handler that logs a line at the end of each request. It gives
// every request an id, which the answer contains too. It does not log queries,
// because they contain tokens, and logs health checks only at level debug.
func logged(next http.Handler, cfg *Config) http.Handler {
	buffers := newCopyBuffers(largeBuffers)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, id := time.Now(), rand.Text()
		w.Header().Set(ocihttp.RequestID, id)
		res := newResponse(w, start.Add(cfg.RequestLimit+cutoffTimeout), buffers)
		defer func() {
			client := r.RemoteAddr
			if addr := cfg.ClientAddr(r); addr.IsValid() {
				client = addr.String()
			}
			level := slog.LevelInfo
			if isHealthPath(r.URL.Path) { // load balancers request it every few seconds
				level = slog.LevelDebug
			}
			cfg.Log.LogAttrs(r.Context(), level, "request",
				slog.String("id", id),
				slog.String("method", truncate(r.Method, maxLoggedMethod)),
				slog.String("path", truncate(r.URL.Path, maxLoggedPath)),
				slog.Int("status", res.status),
				slog.Int64("sent", res.sent),
				slog.Duration("took", time.Since(start)),
				slog.String("client", client),
				slog.String("user_agent", truncate(r.UserAgent(), maxLoggedAgent)))
		}()
		next.ServeHTTP(res, r)
	})
}

// truncate returns s, cut off after at most n bytes without splitting a rune.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for range utf8.UTFMax - 1 {
		if utf8.RuneStart(s[n]) {
			break
		}
		n--
	}
	return s[:n] + "…"
}
