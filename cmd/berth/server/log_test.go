package server

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berthhq/berth/blobstore/activity"
	"github.com/berthhq/berth/blobstore/ocihttp"
)

// TestAccessLog checks the lines of the log, with the client behind a proxy, and
// that the responses have the ids of the lines.
func TestAccessLog(t *testing.T) {
	cfg := testConfig(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/empty" {
			return
		}
		SetUser(r.Context(), "ann")
		act := activity.Of(r.Context())
		act.Describe("manifest", "library/tea", "sha256:00", "v1")
		act.Redirected("cdn:edge")
		act.CountStoreRequest()
		w.WriteHeader(http.StatusTeapot)
		if _, err := io.WriteString(w, "short "); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(w, strings.NewReader("and stout")); err != nil { // by ReadFrom
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})
	var log bytes.Buffer // slog's handlers lock it
	cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
	cfg.ClientAddr = func(*http.Request) netip.Addr { return netip.MustParseAddr("198.51.100.7") }
	server := httptest.NewServer(newServer(t.Context(), t.Context(), &cfg, newReadiness(cfg.Ping, cfg.Log)).Handler)
	var ids []string
	for _, path := range []string{"/a?token=hush", "/empty"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "test/1 \"quoted\"")
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		ids = append(ids, res.Header.Get(ocihttp.RequestID))
	}
	server.Close() // the lines are written by then

	type line struct {
		Msg, ID, Method, Path, Client string
		UserAgent                     string `json:"user_agent"`
		Status, Sent                  int
		User, Repository, Digest, Tag string
		Redirect                      string
		StoreRequests                 int `json:"store_requests"`
	}
	var got []line
	for decoder := json.NewDecoder(strings.NewReader(log.String())); decoder.More(); {
		var l line
		if err := decoder.Decode(&l); err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	want := []line{
		{Msg: "request", ID: ids[0], Method: "GET", Path: "/a", Client: "198.51.100.7", UserAgent: `test/1 "quoted"`, Status: http.StatusTeapot, Sent: len("short and stout"),
			User: "ann", Repository: "library/tea", Digest: "sha256:00", Tag: "v1", Redirect: "cdn:edge", StoreRequests: 1},
		{Msg: "request", ID: ids[1], Method: "GET", Path: "/empty", Client: "198.51.100.7", UserAgent: `test/1 "quoted"`, Status: http.StatusOK},
	}
	// A line is written after its response, and perhaps after the next response's line.
	byPath := cmpopts.SortSlices(func(a, b line) bool { return a.Path < b.Path })
	if diff := cmp.Diff(want, got, byPath); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if ids[0] == "" || ids[0] == ids[1] {
		t.Errorf("%s of the responses = %q, want two ids", ocihttp.RequestID, ids)
	}
	if strings.Contains(log.String(), "hush") {
		t.Errorf("the log contains a query:\n%s", log.String())
	}
}

// TestAccessLogOfHostileRequests checks that a request is one line of the log, of
// bounded length, for every input of a client.
func TestAccessLogOfHostileRequests(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	loggers := map[string]*slog.Logger{
		"text": slog.New(slog.NewTextHandler(&log, nil)),
		"json": slog.New(slog.NewJSONHandler(&log, nil)),
	}
	for _, tc := range []struct{ agent, wantText, wantJSON string }{
		{"a\nlevel=ERROR msg=forged", `user_agent="a\nlevel=ERROR msg=forged"`, `"user_agent":"a\nlevel=ERROR msg=forged"`},
		{"\x1b[31m red \x00", `user_agent="\x1b[31m red \x00"`, `"user_agent":"\u001b[31m red \u0000"`},
		{"\xff\xfe", `user_agent="\xff\xfe"`, `"user_agent":"\ufffd\ufffd"`},
		{"", `user_agent=""`, `"user_agent":""`},
		{strings.Repeat("x", maxLoggedAgent), "user_agent=" + strings.Repeat("x", maxLoggedAgent) + "\n", strings.Repeat("x", maxLoggedAgent) + `"}`},
		{strings.Repeat("x", 60_000), "user_agent=" + strings.Repeat("x", maxLoggedAgent) + "…\n", strings.Repeat("x", maxLoggedAgent) + `…"}`},
		{strings.Repeat("ü", 60_000), "user_agent=" + strings.Repeat("ü", maxLoggedAgent/2) + "…\n", strings.Repeat("ü", maxLoggedAgent/2) + `…"}`},
	} {
		for format, want := range map[string]string{"text": tc.wantText, "json": tc.wantJSON} {
			log.Reset()
			cfg := testConfig(http.NotFound)
			cfg.Log = loggers[format]
			r := httptest.NewRequest(http.MethodGet, "/"+strings.Repeat("p", 60_000), nil)
			r.Method = strings.Repeat("M", 60_000)
			r.Header.Set("User-Agent", tc.agent)
			newServer(t.Context(), t.Context(), &cfg, newReadiness(cfg.Ping, cfg.Log)).Handler.ServeHTTP(httptest.NewRecorder(), r)
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) || len(got) > 2000 {
				t.Errorf("%s: User-Agent %.40q: log = %.400q, want one line that contains %.80q", format, tc.agent, got, want)
			}
		}
	}
}

func TestTruncate(t *testing.T) {
	for _, tc := range []struct {
		s    string
		n    int
		want string
	}{
		{"", 0, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc…"}, {"aü", 2, "a…"}, {"a😀", 4, "a…"}, {"a\x80\x80\x80\x80\x80\x80", 5, "a\x80…"},
	} {
		if got := truncate(tc.s, tc.n); got != tc.want {
			t.Errorf("truncate(%q, %d) = %q, want %q", tc.s, tc.n, got, tc.want)
		}
	}
}
