package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(line{}, "Client")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if ids[0] == "" || ids[0] == ids[1] || strings.Contains(log.String(), "hush") {
		t.Errorf("ids %q, log\n%s", ids, log.String())
	}
}
