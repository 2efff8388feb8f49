package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Paths of health checks for load balancers and Kubernetes. The first reports
// whether the process is up, the second also whether its store answers.
const (
	pathHealthy = "/healthz"
	pathReady   = "/readyz"
)

func isHealthPath(path string) bool { return path == pathHealthy || path == pathReady }

// health returns a handler that responds to the two health paths, and passes all
// other requests to next. Once ctx has ended, the server is shutting down and
// not ready.
func health(ctx context.Context, next http.Handler, ready *readiness) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !isHealthPath(r.URL.Path):
			next.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "want GET, HEAD")
		case r.URL.Path == pathHealthy:
			respondOK(w)
		case ctx.Err() != nil:
			w.Header().Set("Connection", "close")
			refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE", "shutting down")
		case !ready.check(r.Context()):
			refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE", "the store does not answer")
		default:
			respondOK(w)
		}
	})
}

func respondOK(w http.ResponseWriter) {
	respondShort(w, http.StatusOK, "text/plain; charset=utf-8", []byte("ok"))
}

// refuse responds with an error in the form of the API's errors.
func refuse(w http.ResponseWriter, status int, code, message string) {
	body, _ := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}}) // strings can be encoded
	respondShort(w, status, "application/json", body)
}

func respondShort(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone; net/http leaves it out for HEAD
}

const (
	// A health check probes the store, but at most once in this interval.
	probeInterval = 3 * time.Second
	probeTimeout  = 5 * time.Second

	// probeWait is how long a response waits for a probe. Kubernetes waits for a
	// second.
	probeWait = 700 * time.Millisecond

	// A single slow request must not take a replica out of service, nor a single
	// fast one bring it back.
	failuresToUnready = 3
	successesToReady  = 2
)

// readiness is the state of /readyz: whether the store answers. It starts as
// ready, because the store has just answered when a server starts. It is safe
// for concurrent use.
type readiness struct {
	ping func(context.Context) error
	log  *slog.Logger

	mu      sync.Mutex
	unready bool
	streak  int           // probes in a row that contradict unready
	next    time.Time     // the next probe starts no earlier
	running chan struct{} // closed when the running probe ends; nil if none runs
}

func newReadiness(ping func(context.Context) error, log *slog.Logger) *readiness {
	return &readiness{ping: ping, log: log}
}

// check reports whether the store answers, according to the latest probes. It
// starts a probe if one is due, and waits up to probeWait for a running probe.
func (r *readiness) check(ctx context.Context) bool {
	if running := r.probe(ctx); running != nil {
		wait := time.NewTimer(probeWait)
		defer wait.Stop()
		select {
		case <-running:
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.unready
}

// probe returns a channel that is closed when the running probe ends. It starts a
// probe if one is due, and returns nil if none runs and it is too early for the
// next. A probe continues after the request that started it.
func (r *readiness) probe(ctx context.Context) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running != nil || time.Now().Before(r.next) {
		return r.running
	}
	done := make(chan struct{})
	r.running, r.next = done, time.Now().Add(probeInterval)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
		defer cancel()
		result := make(chan error, 1)
		go func() { result <- r.ping(ctx) }()
		for {
			select {
			case err := <-result:
				r.record(ctx, err, true)
				close(done)
				return
			case <-time.After(probeTimeout + probeWait):
				r.record(ctx, errSilent, false)
			}
		}
	}()
	return done
}

// errSilent is the result of a probe that ignores its timeout, as calls of a
// network file system do. It counts again whenever another probe could have ended.
var errSilent = errors.New("the probe has not ended in its time")

// record records a result of the running probe. ended reports whether it is the
// last result.
func (r *readiness) record(ctx context.Context, err error, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ended {
		r.running = nil
	}
	if err != nil {
		r.log.DebugContext(ctx, "the store does not answer a probe", "error", err)
	}
	if (err != nil) == r.unready {
		r.streak = 0
		return
	}
	r.streak++
	switch {
	case err != nil && r.streak == failuresToUnready:
		r.log.ErrorContext(ctx, "the store does not answer: /readyz is 503 until it does", "error", err)
	case err == nil && r.streak == successesToReady:
		r.log.InfoContext(ctx, "the store answers again: /readyz is 200")
	default:
		return
	}
	r.unready, r.streak = err != nil, 0
}
