package system

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// TestReadinessBudget checks that many requests for /readyz cause one small request
// to the store in each interval, and that other requests cause none.
func TestReadinessBudget(t *testing.T) {
	t.Parallel()
	bucket, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: memory.S3()}})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var calls []string
	record := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		mu.Lock()
		calls = append(calls, c.String())
		mu.Unlock()
		return do(ctx)
	}
	takeCalls := func() []string {
		mu.Lock()
		defer mu.Unlock()
		all := calls
		calls = nil
		return all
	}
	p := serveInProcess(t, drivertest.Wrap(bucket, record), 0)
	takeCalls()
	data := randomBytes(1, 10*kB)
	want(t, p, http.StatusCreated, http.MethodPut, finish(startUpload(t, p), data), bytes.NewReader(data))
	wantBlob(t, p, data)
	want(t, p, http.StatusOK, http.MethodGet, "/healthz", nil)
	for _, c := range takeCalls() {
		if strings.Contains(c, "meta/") {
			t.Errorf("a push, a pull and /healthz caused %s", c)
		}
	}
	const probeInterval = 3 * time.Second // of package server
	start := time.Now()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if a, err := request(t.Context(), p, http.MethodGet, "/readyz", nil); err != nil || a.status != http.StatusOK {
				t.Errorf("GET /readyz = %d %s, %v, want 200", a.status, a.body, err)
			}
		})
	}
	wg.Wait()
	got, atMost := takeCalls(), 1+int(time.Since(start)/probeInterval)
	if len(got) < 1 || len(got) > atMost || got[0] != "Stat meta/format" {
		t.Errorf("50 requests for /readyz caused %q, want Stat meta/format at most %d times", got, atMost)
	}
}

// TestHealthIsNotLogged checks that health checks are logged at level debug only.
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
			t.Errorf("level %s: health checks in the log: want %v\n%s", level, logged, log)
		}
	}
}

// TestDrain checks that after SIGTERM a server with limits.drain reports that it is
// not ready, and serves requests until the drain is over.
func TestDrain(t *testing.T) {
	t.Parallel()
	p := serving(t, t.TempDir(), "BERTH_LIMITS_DRAIN=3s")
	want(t, p, http.StatusOK, http.MethodGet, "/readyz", nil)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for a := (response{}); a.status != http.StatusServiceUnavailable; {
		var err error
		if a, err = request(t.Context(), p, http.MethodGet, "/readyz", nil); err != nil {
			t.Fatalf("GET /readyz: %v, want 503 before the server stops", err)
		}
	}
	data := randomBytes(1, kB)
	want(t, p, http.StatusCreated, http.MethodPut, finish(startUpload(t, p), data), bytes.NewReader(data))
	want(t, p, http.StatusOK, http.MethodGet, "/healthz", nil)
	untilRefused(t, p)
	wantExit(t, p)
}
