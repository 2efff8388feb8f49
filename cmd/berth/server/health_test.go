package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	type state string
	const (
		ready    state = "ready"
		unready  state = "unready"
		stopping state = "stopping"
	)
	api := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for _, tc := range []struct {
		method, path string
		state        state
		status       int
		body         string
	}{
		{"GET", "/healthz", ready, http.StatusOK, "ok"},
		{"GET", "/healthz?verbose", ready, http.StatusOK, "ok"},
		{"GET", "/healthz", unready, http.StatusOK, "ok"},
		{"GET", "/healthz", stopping, http.StatusOK, "ok"},
		{"GET", "/readyz", ready, http.StatusOK, "ok"},
		{"HEAD", "/readyz", ready, http.StatusOK, "ok"}, // net/http leaves the body out
		{"GET", "/readyz", unready, http.StatusServiceUnavailable, `{"errors":[{"code":"UNAVAILABLE","message":"the store does not answer"}]}`},
		{"GET", "/readyz", stopping, http.StatusServiceUnavailable, `{"errors":[{"code":"UNAVAILABLE","message":"shutting down"}]}`},
		{"POST", "/readyz", ready, http.StatusMethodNotAllowed, `{"errors":[{"code":"UNSUPPORTED","message":"want GET, HEAD"}]}`},
		{"DELETE", "/healthz", ready, http.StatusMethodNotAllowed, `{"errors":[{"code":"UNSUPPORTED","message":"want GET, HEAD"}]}`},
		{"GET", "/healthz/", ready, http.StatusTeapot, ""},
		{"GET", "/readyz/x", ready, http.StatusTeapot, ""},
		{"GET", "/v2/healthz", ready, http.StatusTeapot, ""},
	} {
		ctx, stop := context.WithCancel(t.Context())
		r := newReadiness(func(context.Context) error { return nil }, slog.New(slog.DiscardHandler))
		r.unready = tc.state == unready
		if tc.state == stopping {
			stop()
		}
		w := httptest.NewRecorder()
		health(ctx, api, r).ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, nil))
		stop()
		if w.Code != tc.status || w.Body.String() != tc.body {
			t.Errorf("%s %s, %s = %d %q, want %d %q", tc.method, tc.path, tc.state, w.Code, w.Body, tc.status, tc.body)
		}
		if allow := w.Header().Get("Allow"); (w.Code == http.StatusMethodNotAllowed) != (allow == "GET, HEAD") {
			t.Errorf("%s %s = %d with Allow: %q", tc.method, tc.path, w.Code, allow)
		}
		if c := w.Header().Get("Cache-Control"); w.Code != http.StatusTeapot && c != "no-store" {
			t.Errorf("%s %s: Cache-Control = %q, want no-store", tc.method, tc.path, c)
		}
	}
}

// TestReadiness makes probes fail and succeed. A single result changes nothing, and
// neither do several requests within an interval.
func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var failure error
		probes := 0
		r := newReadiness(func(context.Context) error { probes++; return failure }, slog.New(slog.NewTextHandler(&log, nil)))
		for i, step := range []struct{ fails, want bool }{
			{false, true},
			{true, true}, {true, true}, {false, true}, // two failures are not enough
			{true, true}, {true, true}, {true, false}, // three are
			{true, false},
			{false, false}, {true, false}, // one success is not enough
			{false, false}, {false, true}, // two are
			{true, true}, {false, true},
		} {
			failure = nil
			if step.fails {
				failure = errors.New("host unreachable")
			}
			before := probes
			for range 20 {
				if got := r.check(t.Context()); got != step.want {
					t.Errorf("step %d: check() = %v, want %v", i, got, step.want)
				}
			}
			if probes != before+1 {
				t.Errorf("step %d: %d probes, want 1", i, probes-before)
			}
			time.Sleep(probeInterval)
		}
		if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "host unreachable") || !strings.Contains(got, "answers again") {
			t.Errorf("the log should have a line for each of two changes:\n%s", got)
		}
	})
}

// TestReadinessOfSilentStore checks that one probe runs at a time while a store
// does not answer, and that no request waits for long.
func TestReadinessOfSilentStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, probes atomic.Int32
		r := newReadiness(func(ctx context.Context) error {
			probes.Add(1)
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			<-ctx.Done()
			return ctx.Err()
		}, slog.New(slog.DiscardHandler))
		start := time.Now()
		var unreadyAfter atomic.Int64
		for time.Since(start) < time.Minute {
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second) // as Kubernetes does
					defer cancel()
					asked := time.Now()
					ready := r.check(ctx)
					if took := time.Since(asked); took > probeWait {
						t.Errorf("check() took %v, want at most %v", took, probeWait)
					}
					if !ready {
						unreadyAfter.CompareAndSwap(0, int64(time.Since(start)))
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if after, limit := time.Duration(unreadyAfter.Load()), failuresToUnready*(probeTimeout+2*time.Second); after == 0 || after > limit {
			t.Errorf("unready after %v, want at most %v", after, limit)
		}
		if n := int32(time.Minute / probeTimeout); most.Load() != 1 || probes.Load() > n {
			t.Errorf("%d probes, %d at a time, want at most %d, one at a time", probes.Load(), most.Load(), n)
		}
		time.Sleep(probeTimeout) // for the last probe to end
	})
}

// TestReadinessOfHangingProbe checks that a probe that ignores its timeout counts
// as failed, that no other probe starts beside it, and that the store is ready
// again when it has returned.
func TestReadinessOfHangingProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var probes atomic.Int32
		hangs := make(chan struct{})
		r := newReadiness(func(context.Context) error { probes.Add(1); <-hangs; return nil }, slog.New(slog.DiscardHandler))
		start := time.Now()
		for r.check(t.Context()) && time.Since(start) < time.Minute {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took < failuresToUnready*probeTimeout || took > failuresToUnready*(probeTimeout+2*time.Second) {
			t.Errorf("unready after %v, want about %v", took, failuresToUnready*probeTimeout)
		}
		time.Sleep(time.Minute)
		if n := probes.Load(); n != 1 {
			t.Errorf("%d probes while one hangs, want 1", n)
		}
		if r.check(t.Context()) {
			t.Error("check() = true while a probe hangs, want false")
		}
		close(hangs)
		synctest.Wait()
		if r.check(t.Context()); !r.check(t.Context()) {
			t.Error("check() = false after two successes, want true")
		}
	})
}
