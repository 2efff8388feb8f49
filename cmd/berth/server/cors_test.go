package server

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/drivers/memory"
)

// TestCrossOrigin sends the requests that browsers send for pages of other origins.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	api := memoryAPI(t)
	const ui, other = "https://ui.example.com", "https://other.example.com"
	named := CORS{Origins: []string{ui, "http://localhost:3000"}, MaxAge: time.Hour}
	trusted := CORS{Origins: []string{ui}, Credentials: true}
	for _, tc := range []corsCase{
		{"off", CORS{MaxAge: time.Hour}, ui, "", http.StatusMethodNotAllowed, ""},
		{"an origin of the list", named, ui, ui, http.StatusNoContent, "3600"},
		{"another origin of the list", named, "http://localhost:3000", "http://localhost:3000", http.StatusNoContent, "3600"},
		{"an origin that is not in the list", named, other, "", http.StatusNoContent, ""},
		{"a subdomain of an origin in the list", named, "https://x.ui.example.com", "", http.StatusNoContent, ""},
		{"null", named, "null", "", http.StatusNoContent, ""},
		{"every origin", CORS{Origins: []string{"*"}, MaxAge: time.Minute}, other, "*", http.StatusNoContent, "60"},
		{"credentials", trusted, ui, ui, http.StatusNoContent, "0"},
		{"credentials for another origin", trusted, other, "", http.StatusNoContent, ""},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, crossOrigin(api, tc.cors)) })
	}
}

// memoryAPI returns the API on an empty store in memory.
func memoryAPI(t *testing.T) http.Handler {
	t.Helper()
	bucket, err := memory.Open(t.Context(), memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := blobstore.Open(t.Context(), bucket, blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	api, err := ocihttp.New(store, ocihttp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

type corsCase struct {
	name      string
	cors      CORS
	origin    string
	allowed   string // Access-Control-Allow-Origin, or "" if the origin is not allowed
	preflight int    // status of OPTIONS
	maxAge    string
}

func (tc *corsCase) test(t *testing.T, handler http.Handler) {
	allowed := tc.allowed != ""
	preflight := tc.request(t, handler, http.MethodOptions, tc.preflight,
		"Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "authorization,content-range")
	for header, want := range map[string]string{"Access-Control-Allow-Methods": "PATCH", "Access-Control-Allow-Headers": "authorization,content-range"} {
		if got := preflight.Get(header); allowed && got != want {
			t.Errorf("preflight: %s = %q, want %q", header, got, want)
		}
	}
	if got := preflight.Get("Access-Control-Max-Age"); got != tc.maxAge {
		t.Errorf("preflight: Access-Control-Max-Age = %q, want %q", got, tc.maxAge)
	}

	post := tc.request(t, handler, http.MethodPost, http.StatusAccepted)
	exposed := strings.Split(post.Get("Access-Control-Expose-Headers"), ", ")
	for _, name := range []string{"Docker-Content-Digest", "Content-Range", "Location", "Range", "Link", "Www-Authenticate", "Oci-Chunk-Min-Length", "Oci-Subject", "Oci-Tag", "Oci-Filters-Applied"} {
		if slices.Contains(exposed, name) != allowed {
			t.Errorf("POST: Access-Control-Expose-Headers = %q, want %s in it: %v", exposed, name, allowed)
		}
	}

	// Caches must not mix up responses for pages of different origins.
	get := tc.request(t, handler, http.MethodGet, http.StatusMethodNotAllowed)
	if vary := get.Get("Vary"); len(tc.cors.Origins) > 0 && tc.allowed != "*" && vary != "Origin" {
		t.Errorf("GET: Vary = %q, want Origin", vary)
	}
}

// request sends a request of a page, checks who may read the response, and returns
// the response's header.
func (tc *corsCase) request(t *testing.T, handler http.Handler, method string, status int, header ...string) http.Header {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "/v2/a/blobs/uploads/", nil)
	req.Header.Set("Origin", tc.origin)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, req)
	if w.Code != status {
		t.Errorf("%s = %d, want %d", method, w.Code, status)
	}
	credentials := ""
	if tc.cors.Credentials && tc.allowed != "" {
		credentials = "true"
	}
	for name, want := range map[string]string{"Access-Control-Allow-Origin": tc.allowed, "Access-Control-Allow-Credentials": credentials} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %s = %q, want %q", method, name, got, want)
		}
	}
	return w.Header()
}
