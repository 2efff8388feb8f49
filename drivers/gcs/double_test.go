package gcs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	raw "google.golang.org/api/storage/v1"

	"github.com/berthhq/berth/drivers"
)

// double is Cloud Storage as far as Complete uses it, without the bytes: sizes,
// checksums and generations, behind an http.RoundTripper. It checks every
// precondition, and deletes sources with the compose.
type double struct {
	mu       sync.Mutex
	objects  map[string]*raw.Object
	last     int64          // generation
	composed int            // composes that took effect
	requests map[string]int // by kind

	// leave reports whether a compose leaves a source, as if the store had
	// crashed before it could delete it.
	leave func(name string) bool
}

func newDouble() *double {
	return &double{objects: make(map[string]*raw.Object), requests: make(map[string]int), leave: func(string) bool { return false }}
}

// open returns a replica that sends its requests through a transport.
func (d *double) open(t *testing.T, through func(http.RoundTripper) http.RoundTripper) *bucket {
	t.Helper()
	var transport http.RoundTripper = d
	if through != nil {
		transport = through(d)
	}
	b, err := open(t.Context(), Config{Bucket: "b", Endpoint: "http://gcs.example", Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // frees connections only
	return b
}

// stage creates parts as PutPart would.
func (d *double) stage(u drivers.Upload, parts []drivers.Part) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, p := range parts {
		a, _ := parseAttempt(p.Tag)
		a.generation = d.put(partKey(u, p.Number, a.id), p.Size, p.CRC32C).Generation
		parts[i].Tag = a.tag()
	}
}

// put stores an object. The caller holds the lock.
func (d *double) put(name string, size int64, crc uint32) *raw.Object {
	d.last++
	o := &raw.Object{Name: name, Size: uint64(size), Crc32c: drivers.EncodeCRC32C(crc), Generation: d.last, Updated: "2026-01-02T03:04:05Z"}
	d.objects[name] = o
	return o
}

// names returns the names of all objects, sorted.
func (d *double) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.objects {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (d *double) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rest := strings.TrimPrefix(r.URL.EscapedPath(), "/storage/v1/b/b/o")
	rest, isCompose := strings.CutSuffix(rest, "/compose")
	name, err := url.PathUnescape(strings.TrimPrefix(rest, "/"))
	if err != nil {
		return nil, err
	}
	switch {
	case isCompose:
		d.requests["compose"]++
		return d.compose(r, name)
	case r.Method == http.MethodGet && name == "":
		d.requests["list"]++
		var page raw.Objects
		for found, o := range d.objects {
			if strings.HasPrefix(found, r.URL.Query().Get("prefix")) {
				page.Items = append(page.Items, o)
			}
		}
		return answer(r, http.StatusOK, page)
	case r.Method == http.MethodGet:
		d.requests["get"]++
		if o, ok := d.objects[name]; ok {
			return answer(r, http.StatusOK, o)
		}
		return answer(r, http.StatusNotFound, "No such object")
	case r.Method == http.MethodDelete:
		d.requests["delete"]++
		delete(d.objects, name)
		return answer(r, http.StatusNoContent, nil)
	}
	return nil, fmt.Errorf("double: %s %s", r.Method, r.URL)
}

func (d *double) compose(r *http.Request, name string) (*http.Response, error) {
	var req raw.ComposeRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, err
	}
	if n := len(req.SourceObjects); n == 0 || n > maxSources || !req.DeleteSourceObjects || r.URL.Query().Get("ifGenerationMatch") != "0" {
		return nil, fmt.Errorf("double: compose of %d sources, deleting %v, %s", n, req.DeleteSourceObjects, r.URL.RawQuery)
	}
	if d.objects[name] != nil {
		return answer(r, http.StatusPreconditionFailed, "The destination exists")
	}
	var size int64
	var crc uint32
	for _, s := range req.SourceObjects {
		o := d.objects[s.Name]
		if o == nil {
			return answer(r, http.StatusNotFound, "No such source")
		}
		if o.Generation != s.ObjectPreconditions.IfGenerationMatch {
			return answer(r, http.StatusPreconditionFailed, "A source has another generation")
		}
		crc = drivers.CombineCRC32C(crc, decodeCRC(o.Crc32c), int64(o.Size))
		size += int64(o.Size)
	}
	if req.Destination.Crc32c != drivers.EncodeCRC32C(crc) {
		return answer(r, http.StatusBadRequest, "checksum")
	}
	o := d.put(name, size, crc)
	for _, s := range req.SourceObjects {
		if !d.leave(s.Name) {
			delete(d.objects, s.Name)
		}
	}
	d.composed++
	return answer(r, http.StatusOK, o)
}

// decodeCRC is the inverse of drivers.EncodeCRC32C.
func decodeCRC(text string) uint32 {
	var b []byte
	if err := json.Unmarshal(fmt.Appendf(nil, "%q", text), &b); err != nil || len(b) != 4 {
		return 0
	}
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// answer returns a response of the JSON API. A body that is a string is the message
// of an error.
func answer(r *http.Request, status int, body any) (*http.Response, error) {
	if message, ok := body.(string); ok {
		body = map[string]any{"error": map[string]any{"code": status, "message": message}}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(data))),
	}, nil
}

var errKilled = errors.New("killed")

// killed is a transport that sends a number of requests. It sends one more
// without returning the answer, if made is set, and then no more.
type killed struct {
	http.RoundTripper
	mu    sync.Mutex
	after int
	made  bool
}

func (k *killed) RoundTrip(r *http.Request) (*http.Response, error) {
	k.mu.Lock()
	k.after--
	left := k.after
	k.mu.Unlock()
	if left >= 0 {
		return k.RoundTripper.RoundTrip(r)
	}
	if left == -1 && k.made {
		if resp, err := k.RoundTripper.RoundTrip(r); err == nil {
			resp.Body.Close()
		}
	}
	return nil, errKilled
}

// transport is a function that is an http.RoundTripper.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
