package ocihttp

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// doFunc sends a request to a handler with a store that does not fail.
type doFunc func(method, target, body string) *httptest.ResponseRecorder

// operation is a request that is repeated with each of its calls to the store
// failing in turn.
type operation struct {
	name    string
	prepare func(do doFunc) (method, target, body string)
	ok      int // status if nothing fails
	miss    int // other successful status if the store reports that an object is missing, or 0
}

// long is content that is stored as data, and hello is stored inline.
var long = strings.Repeat("long enough for data of its own ", 10)

const (
	blobURL    = "/v2/a/blobs/"
	uploadsURL = "/v2/a/blobs/uploads/"
)

func digestOf(s string) string { return digest.FromString(s).String() }

// push pushes content to a repository.
func (do doFunc) push(repository, content string) {
	do("POST", "/v2/"+repository+"/blobs/uploads/?digest="+digestOf(content), content)
}

// start starts an upload in repository a and returns its Location.
func (do doFunc) start() string { return do("POST", uploadsURL, "").Header().Get("Location") }

// patched starts an upload, stores long in it, and returns its Location.
func (do doFunc) patched() string { return do("PATCH", do.start(), long).Header().Get("Location") }

func pushOperations() []operation {
	return []operation{
		{"single POST", func(do doFunc) (string, string, string) {
			return "POST", uploadsURL + "?digest=" + digestOf("hello"), "hello"
		}, 201, 0},
		{"single POST of data", func(do doFunc) (string, string, string) {
			return "POST", uploadsURL + "?digest=" + digestOf(long), long
		}, 201, 0},
		{"single POST of an existing blob", func(do doFunc) (string, string, string) {
			do.push("b", long)
			return "POST", uploadsURL + "?digest=" + digestOf(long), long
		}, 201, 0},
		{"single POST by sha512", func(do doFunc) (string, string, string) {
			return "POST", uploadsURL + "?digest=" + digest.SHA512.FromString(long).String(), long
		}, 201, 0},
		{"first PATCH", func(do doFunc) (string, string, string) { return "PATCH", do.start(), long }, 202, 0},
		{"second PATCH", func(do doFunc) (string, string, string) { return "PATCH", do.patched(), "more" }, 202, 0},
		{"PATCH out of order", func(do doFunc) (string, string, string) {
			start := do.start()
			do("PATCH", start, long)
			return "PATCH", start, "more"
		}, 416, 0},
		{"PUT", func(do doFunc) (string, string, string) {
			return "PUT", do.patched() + "&digest=" + digestOf(long+"more"), "more"
		}, 201, 0},
		{"PUT again", func(do doFunc) (string, string, string) {
			target := do.patched() + "&digest=" + digestOf(long+"more")
			do("PUT", target, "more")
			return "PUT", target, "more"
		}, 201, 0},
		{"PUT of another digest", func(do doFunc) (string, string, string) {
			return "PUT", do.patched() + "&digest=" + digestOf("other"), "more"
		}, 400, 0},
		{"status", func(do doFunc) (string, string, string) { return "GET", do.patched(), "" }, 204, 0},
		{"cancel", func(do doFunc) (string, string, string) { return "DELETE", do.patched(), "" }, 204, 0},
		{"mount", func(do doFunc) (string, string, string) {
			do.push("b", long)
			return "POST", uploadsURL + "?mount=" + digestOf(long) + "&from=b", ""
		}, 201, 202},
	}
}

func readOperations() []operation {
	return []operation{
		{"GET", func(do doFunc) (string, string, string) {
			do.push("a", long)
			return "GET", blobURL + digestOf(long), ""
		}, 200, 0},
		{"HEAD", func(do doFunc) (string, string, string) {
			do.push("a", "hello")
			return "HEAD", blobURL + digestOf("hello"), ""
		}, 200, 0},
		{"GET by sha512", func(do doFunc) (string, string, string) {
			do("POST", uploadsURL+"?digest="+sha512Hello, "hello")
			return "GET", blobURL + sha512Hello, ""
		}, 200, 0},
		{"DELETE", func(do doFunc) (string, string, string) {
			do.push("a", long)
			return "DELETE", blobURL + digestOf(long), ""
		}, 202, 0},
	}
}

const manifestsURL = "/v2/a/manifests/"

// An index, a manifest that refers to a blob, and one that has a subject too.
var (
	someIndex    = `{"schemaVersion":2,"mediaType":"` + typeIndex + `","manifests":[]}`
	someImage    = `{"schemaVersion":2,"mediaType":"` + typeImage + `","layers":[],"config":{"mediaType":"` + typeConfig + `","digest":"` + digestOf("hello") + `","size":5}}`
	someReferrer = strings.Replace(someImage, `"layers"`, `"subject":{"mediaType":"`+typeImage+`","digest":"`+digestOf(someImage)+`","size":9},"layers"`, 1)
)

// image pushes a whole image, with the tags latest and v1.
func (do doFunc) image() {
	do.push("a", "hello")
	do("PUT", manifestsURL+digestOf(someImage)+"?tag=latest&tag=v1", someImage)
}

func manifestOperations() []operation {
	return []operation{
		{"PUT of a manifest", func(do doFunc) (string, string, string) {
			do.push("a", "hello")
			return "PUT", manifestsURL + "latest", someImage
		}, 201, 0},
		{"PUT of a referrer", func(do doFunc) (string, string, string) {
			do.push("a", "hello")
			return "PUT", manifestsURL + digestOf(someReferrer), someReferrer
		}, 201, 0},
		{"PUT that moves tags", func(do doFunc) (string, string, string) {
			do.image()
			return "PUT", manifestsURL + digestOf(someIndex) + "?tag=latest&tag=new", someIndex
		}, 201, 0},
		{"PUT again", func(do doFunc) (string, string, string) {
			do.image()
			return "PUT", manifestsURL + "latest", someImage
		}, 201, 0},
		{"GET by tag", func(do doFunc) (string, string, string) { do.image(); return "GET", manifestsURL + "latest", "" }, 200, 0},
		{"GET by digest", func(do doFunc) (string, string, string) {
			do.image()
			return "GET", manifestsURL + digestOf(someImage), ""
		}, 200, 0},
		{"HEAD by tag", func(do doFunc) (string, string, string) { do.image(); return "HEAD", manifestsURL + "latest", "" }, 200, 0},
		{"DELETE of a tag", func(do doFunc) (string, string, string) { do.image(); return "DELETE", manifestsURL + "latest", "" }, 202, 0},
		{"DELETE by digest", func(do doFunc) (string, string, string) {
			do.image()
			return "DELETE", manifestsURL + digestOf(someImage), ""
		}, 202, 0},
		{"tags", func(do doFunc) (string, string, string) { do.image(); return "GET", "/v2/a/tags/list", "" }, 200, 0},
		{"catalog", func(do doFunc) (string, string, string) { do.image(); return "GET", "/v2/_catalog", "" }, 200, 0},
		{"referrers", func(do doFunc) (string, string, string) {
			do.image()
			do("PUT", manifestsURL+digestOf(someReferrer), someReferrer)
			return "GET", "/v2/a/referrers/" + digestOf(someImage), ""
		}, 200, 0},
	}
}

// TestFailures makes each call to the store fail in every way, both before and
// after it took effect. The response must conform to the specification, without
// details of the store. A failure of the service or its store must be logged.
func TestFailures(t *testing.T) {
	for habit, h := range habits() {
		for _, op := range slices.Concat(pushOperations(), readOperations(), manifestOperations()) {
			t.Run(habit+"/"+op.name, func(t *testing.T) {
				t.Parallel()
				for failure, err := range failures {
					testFailure(t, h, op, drivertest.Lost, failure, err)
					// After a call took effect, a driver returns no sentinel about the key.
					if failure == "denied" || failure == "busy" {
						testFailure(t, h, op, drivertest.Unanswered, failure, err)
					}
				}
			})
		}
	}
}

// testFailure runs the operation once for each of its calls to the store. That
// call fails with err.
func testFailure(t *testing.T, h memory.Habits, op operation, mode drivertest.Mode, failure string, err error) {
	t.Helper()
	for nth := 1; ; nth++ {
		faulty := &drivertest.Faulty{Mode: mode, Nth: nth, Err: err}
		call, hit := runFaulty(t, h, op, faulty, fmt.Sprintf("%s, %s %s, call %d", op.name, failure, mode, nth))
		if !hit {
			if nth == 1 {
				t.Fatal("no call failed, want at least one")
			}
			return
		}
		if nth > 100 {
			t.Fatalf("the operation made %d calls, the last %s, want fewer than 100", nth, call)
		}
	}
}

// runFaulty runs the operation with a store that fails as faulty describes, and
// checks the response. It reports whether a call failed, and which.
func runFaulty(t *testing.T, h memory.Habits, op operation, faulty *drivertest.Faulty, what string) (drivertest.Call, bool) {
	t.Helper()
	var log ocihttptest.Buffer
	store := &memory.Store{Habits: h}
	config := blobstore.Config{InlineMax: 64, Upload: smallMemory}
	send := func(handler http.Handler, method, target, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body)))
		return w
	}
	good := newHandler(t, openMemory(t, store), config, Config{})
	method, target, body := op.prepare(func(method, target, body string) *httptest.ResponseRecorder {
		return send(good, method, target, body)
	})
	opened := false
	match := faulty.Match
	faulty.Match = func(c drivertest.Call) bool { return opened && (match == nil || match(c)) }
	bad := newHandler(t, drivertest.Wrap(openMemory(t, store), faulty.Intercept), config, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	opened = true
	w := send(bad, method, target, body)
	call, hit := faulty.Hit()
	what += ", " + call.String()
	checkLeaks(t, what, fullResponse{w.Result(), w.Body.String()})
	switch {
	case w.Code < 400:
		if w.Code != op.ok && w.Code != op.miss {
			t.Errorf("%s = %d, want %d or an error", what, w.Code, op.ok)
		}
	case method == http.MethodHead && w.Code != http.StatusNotFound && w.Code != http.StatusServiceUnavailable:
		t.Errorf("%s = %d, want 200, 404 or 503", what, w.Code)
	case method != http.MethodHead:
		checkError(t, what, w, faulty.Err, log.String())
	}
	return call, hit
}

// checkError checks an error response: its format, its code and Retry-After. A
// failure of the service, which err caused, must also be in the log.
func checkError(t *testing.T, what string, w *httptest.ResponseRecorder, err error, log string) {
	t.Helper()
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || len(e.Errors) != 1 || e.Errors[0].Message == "" {
		t.Fatalf("%s = %d with the body %q, %v, want one error", what, w.Code, w.Body.String(), err)
	}
	want := map[int]string{
		400: codeDigestInvalid + codeManifestBlobUnknown,
		404: codeBlobUnknown + codeUploadUnknown + codeManifestUnknown + codeNameUnknown,
		416: codeUploadInvalid,
		500: codeUnknown,
		503: codeUnavailable,
		507: codeUnavailable,
	}[w.Code]
	if !strings.Contains(want, e.Errors[0].Code) || e.Errors[0].Code == "" {
		t.Errorf("%s = %d %s, want the code %q", what, w.Code, e.Errors[0].Code, want)
	}
	if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		t.Errorf("%s = 503 without Retry-After", what)
	}
	if w.Code < 500 || strings.Contains(err.Error(), "canceled") {
		return
	}
	if id := w.Header().Get(RequestID); !strings.Contains(log, id) || !strings.Contains(w.Body.String(), id) {
		t.Errorf("%s = %d, want its id %s in the log (%q) and in the body (%q)", what, w.Code, id, log, w.Body.String())
	}
}
