package main

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
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

func TestHealthAnswers(t *testing.T) {
	t.Parallel()
	type state int
	const (
		ready state = iota
		unready
		stopping
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
			t.Errorf("%s %s, state %d = %d %q, want %d %q", tc.method, tc.path, tc.state, w.Code, w.Body, tc.status, tc.body)
		}
		if allow := w.Header().Get("Allow"); (w.Code == http.StatusMethodNotAllowed) != (allow == "GET, HEAD") {
			t.Errorf("%s %s: Allow is %q", tc.method, tc.path, allow)
		}
		if c := w.Header().Get("Cache-Control"); w.Code != http.StatusTeapot && c != "no-store" {
			t.Errorf("%s %s: Cache-Control is %q", tc.method, tc.path, c)
		}
	}
}

// TestReadiness takes a store away and gives it back. Single results change
// nothing, and neither do several requests within an interval.
func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var broken error
		pings := 0
		r := newReadiness(func(context.Context) error { pings++; return broken }, slog.New(slog.NewTextHandler(&log, nil)))
		for i, step := range []struct{ fails, want bool }{
			{false, true},
			{true, true}, {true, true}, {false, true}, // two failures are not enough,
			{true, true}, {true, true}, {true, false}, // and three are
			{true, false},
			{false, false}, {true, false}, // nor is one success
			{false, false}, {false, true},
			{true, true}, {false, true},
		} {
			broken = nil
			if step.fails {
				broken = errors.New("host unreachable")
			}
			before := pings
			for range 20 {
				if got := r.check(t.Context()); got != step.want {
					t.Errorf("step %d: ready is %v, want %v", i, got, step.want)
				}
			}
			if pings != before+1 {
				t.Errorf("step %d: %d probes, want 1", i, pings-before)
			}
			time.Sleep(probeInterval)
		}
		if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "host unreachable") || !strings.Contains(got, "answers again") {
			t.Errorf("want a line for each change in the log, which has\n%s", got)
		}
	})
}

// TestReadinessOfASilentStore checks that one probe runs at a time, and that no
// answer waits for long.
func TestReadinessOfASilentStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, pings atomic.Int32
		r := newReadiness(func(ctx context.Context) error {
			pings.Add(1)
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			<-ctx.Done()
			return ctx.Err()
		}, slog.New(slog.DiscardHandler))
		begun := time.Now()
		var unready atomic.Int64 // after how long
		for time.Since(begun) < time.Minute {
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					// As Kubernetes does: it gives up after a second.
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					start := time.Now()
					ready := r.check(ctx)
					if took := time.Since(start); took > probeWait {
						t.Errorf("an answer took %v", took)
					}
					if !ready {
						unready.CompareAndSwap(0, int64(time.Since(begun)))
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if limit := failuresToUnready * (probeTimeout + 2*time.Second); unready.Load() == 0 || time.Duration(unready.Load()) > limit {
			t.Errorf("unready after %v, want at most %v", time.Duration(unready.Load()), limit)
		}
		if n := int(time.Minute / probeTimeout); most.Load() != 1 || int(pings.Load()) > n {
			t.Errorf("%d probes, %d at a time, want at most %d, one at a time", pings.Load(), most.Load(), n)
		}
		time.Sleep(probeTimeout) // for the last probe to end
	})
}

// TestReadinessOfAProbeThatHangs: a probe that ignores its timeout counts as
// failed, and no other starts beside it. After its end the store is ready again.
func TestReadinessOfAProbeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pings atomic.Int32
		hangs := make(chan struct{})
		r := newReadiness(func(context.Context) error { pings.Add(1); <-hangs; return nil }, slog.New(slog.DiscardHandler))
		start := time.Now()
		for r.check(t.Context()) && time.Since(start) < time.Minute {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took < failuresToUnready*probeTimeout || took > failuresToUnready*(probeTimeout+2*time.Second) {
			t.Errorf("unready after %v, want about %v", took, failuresToUnready*probeTimeout)
		}
		time.Sleep(time.Minute)
		if n := pings.Load(); n != 1 || r.check(t.Context()) {
			t.Errorf("%d probes, want 1, and not ready", n)
		}
		close(hangs)
		synctest.Wait()
		if r.check(t.Context()); !r.check(t.Context()) {
			t.Error("not ready after two successes")
		}
	})
}

// TestReadinessBudget: however many ask, the store gets one small request in an
// interval, and none of those that don't ask causes one.
func TestReadinessBudget(t *testing.T) {
	t.Parallel()
	bucket, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: memory.S3()}})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var calls []string
	counted := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		mu.Lock()
		calls = append(calls, c.String())
		mu.Unlock()
		return do(ctx)
	}
	taken := func() []string {
		mu.Lock()
		defer mu.Unlock()
		all := calls
		calls = nil
		return all
	}
	p := serveWithin(t, drivertest.Wrap(bucket, counted), func(*config.Config) {})
	taken()
	data := randomBytes(1, 10*kB)
	want(t, p, http.StatusCreated, http.MethodPut, finish(startUpload(t, p), data), bytes.NewReader(data))
	wantBlob(t, p, data)
	want(t, p, http.StatusOK, http.MethodGet, "/healthz", nil)
	for _, c := range taken() {
		if strings.Contains(c, "meta/") {
			t.Errorf("a push, a pull and /healthz cause %s", c)
		}
	}
	start := time.Now()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if a, err := request(t.Context(), p, http.MethodGet, "/readyz", nil); err != nil || a.status != http.StatusOK {
				t.Errorf("GET /readyz = %d %s, %v", a.status, a.body, err)
			}
		})
	}
	wg.Wait()
	got, most := taken(), 1+int(time.Since(start)/probeInterval)
	if len(got) < 1 || len(got) > most || got[0] != "Stat meta/format" {
		t.Errorf("50 requests for /readyz cause %q, want Stat meta/format, at most %d times", got, most)
	}
}

// TestHealthIsNotLogged checks that health checks are only logged at level debug.
func TestHealthIsNotLogged(t *testing.T) {
	t.Parallel()
	for level, logged := range map[string]bool{"info": false, "debug": true} {
		p := serving(t, t.TempDir(), "BERTH_TELEMETRY_LOG_LEVEL="+level)
		want(t, p, http.StatusOK, http.MethodGet, "/readyz", nil)
		want(t, p, http.StatusOK, http.MethodGet, "/healthz", nil)
		want(t, p, http.StatusOK, http.MethodGet, "/v2/", nil)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		log := p.stderr.String()
		if strings.Contains(log, "/readyz") != logged || strings.Contains(log, "/healthz") != logged || !strings.Contains(log, "/v2/") {
			t.Errorf("level %s: the log is\n%s", level, log)
		}
	}
}

// TestDrain sends SIGTERM to a server that drains. It is not ready any more, and
// serves until it stops.
func TestDrain(t *testing.T) {
	t.Parallel()
	p := serving(t, t.TempDir(), "BERTH_LIMITS_DRAIN=3s")
	want(t, p, http.StatusOK, http.MethodGet, "/readyz", nil)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for a := (answer{}); a.status != http.StatusServiceUnavailable; {
		var err error
		if a, err = request(t.Context(), p, http.MethodGet, "/readyz", nil); err != nil {
			t.Fatalf("GET /readyz: %v before it was 503", err)
		}
	}
	data := randomBytes(1, kB)
	want(t, p, http.StatusCreated, http.MethodPut, finish(startUpload(t, p), data), bytes.NewReader(data))
	want(t, p, http.StatusOK, http.MethodGet, "/healthz", nil)
	untilRefused(t, p)
	wantExit(t, p)
}
