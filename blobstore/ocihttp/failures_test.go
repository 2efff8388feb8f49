package ocihttp

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// operation is a request whose calls of the store are made to fail one by one.
type operation struct {
	prepare func(do func(method, target, body string) *httptest.ResponseRecorder) (method, target, body string)
	ok      int // its status when nothing fails
	miss    int // the one when the store says that what it needs isn't there, if that is none of an error
}

func operations() map[string]operation {
	const blob, uploads = "/v2/a/blobs/", "/v2/a/blobs/uploads/"
	long := strings.Repeat("long enough for data of its own ", 10)
	dgst := func(s string) string { return digest.FromString(s).String() }
	type do = func(method, target, body string) *httptest.ResponseRecorder
	push := func(do do, repository, content string) {
		do("POST", "/v2/"+repository+"/blobs/uploads/?digest="+dgst(content), content)
	}
	location := func(w *httptest.ResponseRecorder) string { return w.Header().Get("Location") }
	return map[string]operation{
		"single POST": {func(do do) (string, string, string) {
			return "POST", uploads + "?digest=" + dgst("hello"), "hello"
		}, 201, 0},
		"single POST of data": {func(do do) (string, string, string) {
			return "POST", uploads + "?digest=" + dgst(long), long
		}, 201, 0},
		"single POST of what is there": {func(do do) (string, string, string) {
			push(do, "b", long)
			return "POST", uploads + "?digest=" + dgst(long), long
		}, 201, 0},
		"single POST by sha512": {func(do do) (string, string, string) {
			return "POST", uploads + "?digest=" + digest.SHA512.FromString(long).String(), long
		}, 201, 0},
		"first PATCH": {func(do do) (string, string, string) {
			return "PATCH", location(do("POST", uploads, "")), long
		}, 202, 0},
		"second PATCH": {func(do do) (string, string, string) {
			return "PATCH", location(do("PATCH", location(do("POST", uploads, "")), long)), "more"
		}, 202, 0},
		"PATCH out of order": {func(do do) (string, string, string) {
			start := location(do("POST", uploads, ""))
			do("PATCH", start, long)
			return "PATCH", start, "more"
		}, 416, 0},
		"PUT": {func(do do) (string, string, string) {
			patched := location(do("PATCH", location(do("POST", uploads, "")), long))
			return "PUT", patched + "&digest=" + dgst(long+"more"), "more"
		}, 201, 0},
		"PUT again": {func(do do) (string, string, string) {
			patched := location(do("PATCH", location(do("POST", uploads, "")), long))
			do("PUT", patched+"&digest="+dgst(long+"more"), "more")
			return "PUT", patched + "&digest=" + dgst(long+"more"), "more"
		}, 201, 0},
		"PUT of another digest": {func(do do) (string, string, string) {
			patched := location(do("PATCH", location(do("POST", uploads, "")), long))
			return "PUT", patched + "&digest=" + dgst("other"), "more"
		}, 400, 0},
		"status": {func(do do) (string, string, string) {
			return "GET", location(do("PATCH", location(do("POST", uploads, "")), long)), ""
		}, 204, 0},
		"cancel": {func(do do) (string, string, string) {
			return "DELETE", location(do("PATCH", location(do("POST", uploads, "")), long)), ""
		}, 204, 0},
		"mount": {func(do do) (string, string, string) {
			push(do, "b", long)
			return "POST", uploads + "?mount=" + dgst(long) + "&from=b", ""
		}, 201, 202},
		"GET": {func(do do) (string, string, string) {
			push(do, "a", long)
			return "GET", blob + dgst(long), ""
		}, 200, 0},
		"HEAD": {func(do do) (string, string, string) {
			push(do, "a", "hello")
			return "HEAD", blob + dgst("hello"), ""
		}, 200, 0},
		"GET by sha512": {func(do do) (string, string, string) {
			d := digest.SHA512.FromString("hello").String()
			do("POST", uploads+"?digest="+d, "hello")
			return "GET", blob + d, ""
		}, 200, 0},
		"DELETE": {func(do do) (string, string, string) {
			push(do, "a", long)
			return "DELETE", blob + dgst(long), ""
		}, 202, 0},
	}
}

// TestFailures lets every call of the store fail, in every way, lost and with
// only its answer lost, and wants an answer that the specification knows, says
// nothing of the store, and is in the log if it is this side's failure.
func TestFailures(t *testing.T) {
	for habit, h := range habits() {
		for name, op := range operations() {
			t.Run(habit+"/"+name, func(t *testing.T) {
				t.Parallel()
				for failure, err := range failures {
					for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
						if mode == drivertest.Unanswered && failure != "denied" && failure != "busy" {
							continue // a claim by the store about a key is never that of a call that took effect
						}
						for nth := 1; ; nth++ {
							faulty := &drivertest.Faulty{Mode: mode, Nth: nth, Err: err}
							call, hit := fail(t, h, op, faulty, fmt.Sprintf("%s, %s %s, call %d", name, failure, mode, nth))
							if !hit {
								if nth == 1 {
									t.Fatal("no call failed: the test shows nothing")
								}
								break
							}
							if nth > 100 {
								t.Fatalf("%d calls, the last %s: there is no end to them", nth, call)
							}
						}
					}
				}
			})
		}
	}
}

func fail(t *testing.T, h memory.Habits, op operation, faulty *drivertest.Faulty, what string) (drivertest.Call, bool) {
	t.Helper()
	var log lockedBuffer
	store := &memory.Store{Habits: h}
	config := blobstore.Config{InlineMax: 64, Upload: smallMemory}
	good := newHandler(t, openMemory(t, store), config, Config{})
	do := func(handler http.Handler, method, target, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body)))
		return w
	}
	method, target, body := op.prepare(func(method, target, body string) *httptest.ResponseRecorder {
		return do(good, method, target, body)
	})
	opened := false
	match := faulty.Match
	faulty.Match = func(c drivertest.Call) bool { return opened && (match == nil || match(c)) }
	bad := newHandler(t, drivertest.Wrap(openMemory(t, store), faulty.Intercept), config, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	opened = true
	w := do(bad, method, target, body)
	call, hit := faulty.Hit()
	what += ", " + call.String()
	checkLeaks(t, what, received{w.Result(), w.Body.String()})
	if w.Code < 400 {
		if w.Code != op.ok && w.Code != op.miss {
			t.Errorf("%s: answered %d, want %d or an error", what, w.Code, op.ok)
		}
		return call, hit
	}
	if method == http.MethodHead {
		return call, hit
	}
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || len(e.Errors) != 1 || e.Errors[0].Message == "" {
		t.Fatalf("%s: answered %d with %q: %v", what, w.Code, w.Body.String(), err)
	}
	want := map[int]string{
		400: codeDigestInvalid,
		404: codeBlobUnknown + codeUploadUnknown,
		416: codeUploadInvalid,
		500: codeUnknown,
		503: codeUnavailable,
		507: codeUnavailable,
	}[w.Code]
	if !strings.Contains(want, e.Errors[0].Code) || e.Errors[0].Code == "" {
		t.Errorf("%s: answered %d %s, want the code to be %q", what, w.Code, e.Errors[0].Code, want)
	}
	if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		t.Errorf("%s: 503 without Retry-After", what)
	}
	if id := w.Header().Get(RequestID); w.Code >= 500 && !strings.Contains(faulty.Err.Error(), "canceled") &&
		(!strings.Contains(log.String(), id) || !strings.Contains(w.Body.String(), id)) {
		t.Errorf("%s: answered %d, and its id %s is not in the log (%q) and the body (%q)", what, w.Code, id, log.String(), w.Body.String())
	}
	return call, hit
}
