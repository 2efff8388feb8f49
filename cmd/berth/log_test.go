package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/redirect"
)

// peer is the client of a request that no proxy is trusted for.
func peer(r *http.Request) netip.Addr { return redirect.ClientAddr(r, 0) }

func TestRequestsAreLogged(t *testing.T) {
	var log lockedBuffer
	logger := newLogger(config.Telemetry{LogLevel: "info", LogFormat: "json"}, &log)
	server := httptest.NewServer(logged(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/empty" {
			return
		}
		w.WriteHeader(http.StatusTeapot)
		if _, err := io.WriteString(w, "short "); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(w, strings.NewReader("and stout")); err != nil { // ReadFrom
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	}), func(r *http.Request) netip.Addr { return redirect.ClientAddr(r, 1) }, logger))
	var ids []string
	for _, path := range []string{"/a?token=hush", "/empty"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "test/1 \"quoted\"")
		req.Header.Set("X-Forwarded-For", "198.51.100.7:4711")
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
		{Msg: "request", ID: ids[0], Method: "GET", Path: "/a", Client: "198.51.100.7", UserAgent: `test/1 "quoted"`, Status: http.StatusTeapot, Sent: len("short and stout")},
		{Msg: "request", ID: ids[1], Method: "GET", Path: "/empty", Client: "198.51.100.7", UserAgent: `test/1 "quoted"`, Status: http.StatusOK},
	}
	// A line is written after the answer, and perhaps after the next one's.
	byPath := cmpopts.SortSlices(func(a, b line) bool { return a.Path < b.Path })
	if diff := cmp.Diff(want, got, byPath); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if ids[0] == "" || ids[0] == ids[1] || strings.Contains(log.String(), "hush") {
		t.Errorf("ids %q, log\n%s", ids, log.String())
	}
}

// filesWriter is a connection as net/http has it: it sends a file from the
// kernel if ReadFrom is given one, with a limit around it.
type filesWriter struct {
	*httptest.ResponseRecorder

	files int // that ReadFrom was given
}

func (w *filesWriter) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			w.files++
		}
	}
	return w.Body.ReadFrom(r)
}

// TestFilesAreSentFromTheKernel checks that the kernel sends files, even through
// the writers for the log and for deadlines.
func TestFilesAreSentFromTheKernel(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	data := bytes.Repeat([]byte("sent from the kernel "), 10_000)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	w := &filesWriter{ResponseRecorder: httptest.NewRecorder()}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
	timed(logged(handler, peer, slog.New(slog.DiscardHandler)), time.Hour).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.files != 1 || !bytes.Equal(w.Body.Bytes(), data) {
		t.Errorf("ReadFrom was given a file %d times, for %d bytes, want once, for %d", w.files, w.Body.Len(), len(data))
	}
}

// TestLogOfHostileRequests checks that a request is one line of the log, of
// bounded length, for every input of a client.
func TestLogOfHostileRequests(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		for _, tc := range []struct{ agent, wantText, wantJSON string }{
			{"a\nlevel=ERROR msg=forged", `user_agent="a\nlevel=ERROR msg=forged"`, `"user_agent":"a\nlevel=ERROR msg=forged"`},
			{"\x1b[31m red \x00", `user_agent="\x1b[31m red \x00"`, `"user_agent":"\u001b[31m red \u0000"`},
			{"\xff\xfe", `user_agent="\xff\xfe"`, `"user_agent":"\ufffd\ufffd"`},
			{"", `user_agent=""`, `"user_agent":""`},
			{strings.Repeat("x", loggedAgent), "user_agent=" + strings.Repeat("x", loggedAgent) + "\n", strings.Repeat("x", loggedAgent) + `"}`},
			{strings.Repeat("x", 60_000), "user_agent=" + strings.Repeat("x", loggedAgent) + "…\n", strings.Repeat("x", loggedAgent) + `…"}`},
			{strings.Repeat("ü", 60_000), "user_agent=" + strings.Repeat("ü", loggedAgent/2) + "…\n", strings.Repeat("ü", loggedAgent/2) + `…"}`},
		} {
			var log bytes.Buffer
			handler := logged(http.NotFoundHandler(), peer, newLogger(config.Telemetry{LogLevel: "info", LogFormat: format}, &log))
			r := httptest.NewRequest(http.MethodGet, "/"+strings.Repeat("p", 60_000), nil)
			r.Method = strings.Repeat("M", 60_000)
			r.Header.Set("User-Agent", tc.agent)
			handler.ServeHTTP(httptest.NewRecorder(), r)
			want := tc.wantText
			if format == "json" {
				want = tc.wantJSON
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) || len(got) > 2000 {
				t.Errorf("%s: User-Agent %.40q: the log is %.400q, want one line with %.80q", format, tc.agent, got, want)
			}
		}
	}
}

func TestCut(t *testing.T) {
	for _, tc := range []struct {
		s    string
		most int
		want string
	}{
		{"", 0, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc…"}, {"aü", 2, "a…"}, {"a😀", 4, "a…"}, {"a\x80\x80\x80\x80\x80\x80", 5, "a\x80…"},
	} {
		if got := cut(tc.s, tc.most); got != tc.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tc.s, tc.most, got, tc.want)
		}
	}
}
