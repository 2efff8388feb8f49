package server

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAdmin checks what the two listeners serve: the operator's has no API, and the
// clients' has neither metrics nor profiles.
func TestAdmin(t *testing.T) {
	cfg := testConfig(http.NotFound)
	cfg.Admin.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "berth_build_info 1\n") })
	ready := newReadiness(cfg.Ping, cfg.Log)
	ctx, stop := context.WithCancel(t.Context())
	admin := newAdminServer(ctx, &cfg, ready).Handler
	public := newServer(ctx, ctx, &cfg, ready).Handler
	get := func(h http.Handler, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	for _, tc := range []struct {
		path, contains string
		public         int
	}{
		{"/metrics", "berth_build_info", http.StatusNotFound},
		{"/debug/pprof/", "goroutine", http.StatusNotFound},
		{"/debug/pprof/goroutine?debug=1", "goroutine profile", http.StatusNotFound},
		{"/debug/pprof/cmdline", "server.test", http.StatusNotFound},
		{"/healthz", "ok", http.StatusOK},
		{"/readyz", "ok", http.StatusOK},
	} {
		if w := get(admin, tc.path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), tc.contains) {
			t.Errorf("admin: GET %s = %d %.80q, want 200 with %q", tc.path, w.Code, w.Body, tc.contains)
		}
		if w := get(public, tc.path); w.Code != tc.public {
			t.Errorf("clients: GET %s = %d, want %d", tc.path, w.Code, tc.public)
		}
	}
	if w := get(admin, "/v2/"); w.Code != http.StatusNotFound {
		t.Errorf("admin: GET /v2/ = %d, want 404", w.Code)
	}
	stop()
	if w := get(admin, "/readyz"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("admin: GET /readyz while stopping = %d, want 503", w.Code)
	}
}
