package server

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/berthhq/berth/blobstore/activity"
	"github.com/berthhq/berth/blobstore/ocihttp"
)

// Maximum lengths in the log of strings from clients, in bytes. A path with the
// longest name of a repository and a digest fits into maxLoggedPath.
const (
	maxLoggedMethod = 16
	maxLoggedPath   = 512
	maxLoggedAgent  = 256
	maxLoggedUser   = 256
	maxLoggedHost   = 256
)

// SetUser records the user of the request with this context for the access log. A
// handler that authenticates requests calls it once it knows the user, with a name
// that holds no secret. It does nothing in a context of another origin.
func SetUser(ctx context.Context, name string) { activity.Of(ctx).SetUser(name) }

// logged returns a handler that logs a line at the end of each request, and calls
// cfg.Begin and cfg.End. It gives every request an id, which the response contains too.
// It logs neither queries nor headers of requests, because they contain passwords and
// tokens, nor the URLs of redirects, because they contain signatures. It logs health
// checks only at level debug.
func logged(next http.Handler, cfg *Config) http.Handler {
	buffers := newCopyBuffers(largeBuffers)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := Exchange{ID: rand.Text(), Start: time.Now()}
		w.Header().Set(ocihttp.RequestID, e.ID)
		res := newResponse(w, e.Start.Add(cfg.RequestLimit+cutoffTimeout), buffers)
		ctx, trace := r.Context(), ""
		if cfg.Begin != nil {
			ctx, trace = cfg.Begin(r)
		}
		ctx, act := activity.New(ctx)
		r = r.WithContext(ctx)
		var body *countingBody
		if r.Body != nil && r.Body != http.NoBody {
			body = &countingBody{ReadCloser: r.Body}
			r.Body = body
		}
		defer func() {
			e.fill(cfg, r, res, body, act)
			e.log(ctx, cfg, trace)
			if cfg.End != nil {
				cfg.End(ctx, e)
			}
		}()
		next.ServeHTTP(res, r)
	})
}

// clientOf returns the address of the client behind proxies, or that of the peer if
// it is unknown.
func clientOf(cfg *Config, r *http.Request) string {
	if addr := cfg.ClientAddr(r); addr.IsValid() {
		return addr.String()
	}
	return r.RemoteAddr
}

// log writes the line of the access log.
func (e *Exchange) log(ctx context.Context, cfg *Config, trace string) {
	level := slog.LevelInfo
	if e.Route == routeHealth { // load balancers request it every few seconds
		level = slog.LevelDebug
	}
	if !cfg.Log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("id", e.ID),
		slog.String("method", e.Method),
		slog.String("path", e.Path),
		slog.Int("status", e.Status),
		slog.Int64("received", e.Received),
		slog.Int64("sent", e.Sent),
		slog.Duration("took", e.Took),
		slog.String("client", e.Client),
		slog.String("user_agent", e.UserAgent),
	}
	if trace != "" {
		attrs = append(attrs, slog.String("trace", trace))
	}
	cfg.Log.LogAttrs(ctx, level, "request", append(attrs, factAttrs(e.Facts)...)...)
}

// factAttrs returns the facts that are known. Names of repositories, digests and tags
// are well-formed, and so not long.
func factAttrs(f activity.Facts) (attrs []slog.Attr) {
	for _, fact := range []struct{ key, value string }{
		{"user", truncate(f.User, maxLoggedUser)},
		{"repository", f.Repository},
		{"digest", f.Digest},
		{"tag", f.Tag},
		{"redirect", f.Redirect},
	} {
		if fact.value != "" {
			attrs = append(attrs, slog.String(fact.key, fact.value))
		}
	}
	if f.StoreRequests > 0 {
		attrs = append(attrs, slog.Int("store_requests", f.StoreRequests))
	}
	return attrs
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
