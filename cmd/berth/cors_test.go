package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers/memory"
)

// TestCrossOrigin asks the API as browsers do for pages of other origins.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
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
	const ui, other = "https://ui.example.com", "https://other.example.com"
	named := config.CORS{Origins: []string{ui, "http://localhost:3000"}, MaxAge: time.Hour}
	trusted := config.CORS{Origins: []string{ui}, Credentials: true}
	for _, test := range []struct {
		what      string
		cfg       config.CORS
		origin    string
		allowed   string // Access-Control-Allow-Origin, "" if it is not allowed
		preflight int    // status of OPTIONS
		maxAge    string
	}{
		{"off", config.CORS{MaxAge: time.Hour}, ui, "", http.StatusMethodNotAllowed, ""},
		{"an origin", named, ui, ui, http.StatusNoContent, "3600"},
		{"another origin of the list", named, "http://localhost:3000", "http://localhost:3000", http.StatusNoContent, "3600"},
		{"an origin that is not in it", named, other, "", http.StatusNoContent, ""},
		{"an origin below one of the list", named, "https://x.ui.example.com", "", http.StatusNoContent, ""},
		{"null", named, "null", "", http.StatusNoContent, ""},
		{"every origin", config.CORS{Origins: []string{"*"}, MaxAge: time.Minute}, other, "*", http.StatusNoContent, "60"},
		{"credentials", trusted, ui, ui, http.StatusNoContent, "0"},
		{"credentials for another", trusted, other, "", http.StatusNoContent, ""},
	} {
		h := crossOrigin(api, test.cfg)
		credentials := ""
		if test.cfg.Credentials && test.allowed != "" {
			credentials = "true"
		}
		ask := func(method string, header ...string) http.Header {
			t.Helper()
			req := httptest.NewRequestWithContext(t.Context(), method, "/v2/a/blobs/uploads/", nil)
			req.Header.Set("Origin", test.origin)
			for i := 0; i < len(header); i += 2 {
				req.Header.Set(header[i], header[i+1])
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			if method == http.MethodOptions && w.Code != test.preflight || method == http.MethodPost && w.Code != http.StatusAccepted {
				t.Errorf("%s: %s = %d", test.what, method, w.Code)
			}
			got := w.Header()
			if got.Get("Access-Control-Allow-Origin") != test.allowed || got.Get("Access-Control-Allow-Credentials") != credentials {
				t.Errorf("%s: %s = %v, want %q to be allowed, and credentials %q", test.what, method, got, test.allowed, credentials)
			}
			return got
		}

		got := ask(http.MethodOptions, "Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "authorization,content-range")
		if test.allowed != "" && (got.Get("Access-Control-Allow-Methods") != "PATCH" ||
			got.Get("Access-Control-Allow-Headers") != "authorization,content-range") || got.Get("Access-Control-Max-Age") != test.maxAge {
			t.Errorf("%s: a preflight is answered with %v, want PATCH, the headers, and Max-Age %q", test.what, got, test.maxAge)
		}
		exposed := strings.Split(ask(http.MethodPost).Get("Access-Control-Expose-Headers"), ", ")
		for _, name := range []string{"Docker-Content-Digest", "Content-Range", "Location", "Range", "Link", "Www-Authenticate", "Oci-Chunk-Min-Length", "Oci-Subject"} {
			if slices.Contains(exposed, name) != (test.allowed != "") {
				t.Errorf("%s: the page may read %q, want %s there: %v", test.what, exposed, name, test.allowed != "")
			}
		}
		if vary := ask(http.MethodGet).Get("Vary"); len(test.cfg.Origins) > 0 && test.allowed != "*" && vary != "Origin" {
			t.Errorf("%s: Vary is %q, want Origin: caches must not mix up answers to pages", test.what, vary)
		}
	}
}
