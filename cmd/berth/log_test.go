package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berthhq/berth/blobstore/blobhttp"
	"github.com/berthhq/berth/cmd/berth/config"
)

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
	}), logger))
	var ids []string
	for _, path := range []string{"/a?token=hush", "/empty"} {
		res, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		ids = append(ids, res.Header.Get(blobhttp.RequestID))
	}
	server.Close() // the lines are written by then

	type line struct {
		Msg, ID, Method, Path, Client string
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
		{Msg: "request", ID: ids[0], Method: "GET", Path: "/a", Status: http.StatusTeapot, Sent: len("short and stout")},
		{Msg: "request", ID: ids[1], Method: "GET", Path: "/empty", Status: http.StatusOK},
	}
	// A line is written after the answer, and perhaps after the next one's.
	byPath := cmpopts.SortSlices(func(a, b line) bool { return a.Path < b.Path })
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(line{}, "Client"), byPath); diff != "" {
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

// TestFilesAreSentFromTheKernel: what is logged, and given its time, is sent from
// the kernel all the same, if it is a file.
func TestFilesAreSentFromTheKernel(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	data := bytes.Repeat([]byte("sent from the kernel "), 10_000)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	w := &filesWriter{ResponseRecorder: httptest.NewRecorder()}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
	timed(logged(handler, slog.New(slog.DiscardHandler)), time.Hour).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.files != 1 || !bytes.Equal(w.Body.Bytes(), data) {
		t.Errorf("ReadFrom was given a file %d times, for %d bytes, want once, for %d", w.files, w.Body.Len(), len(data))
	}
}
