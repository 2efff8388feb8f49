package deploy_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/berthhq/berth/cmd/berth/check"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// permissionsOf returns the permissions that a request needs, by the vendor's
// documentation. It returns false if it has no entry for the request, which must
// then be added.
type permissionsOf func(*http.Request) (names []string, ok bool)

// recorder is a transport between a driver and its store. It records which
// permissions the requests need.
type recorder struct {
	permissions permissionsOf
	base        http.RoundTripper

	mu      sync.Mutex
	used    map[string]string // the last request that needed a permission
	unknown []string          // requests without an entry
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.record(req)
	return r.base.RoundTrip(req)
}

func (r *recorder) record(req *http.Request) {
	names, ok := r.permissions(req)
	request := req.Method + " " + req.URL.String()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used == nil {
		r.used = make(map[string]string)
	}
	for _, name := range names {
		r.used[name] = request
	}
	if !ok {
		r.unknown = append(r.unknown, request)
	}
}

// reset deletes what was recorded.
func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used, r.unknown = nil, nil
}

// wantUsed fails the test unless the requests needed exactly the granted
// permissions.
func (r *recorder) wantUsed(t *testing.T, granted ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, request := range r.unknown {
		t.Errorf("no entry for the permissions of %s", request)
	}
	for _, name := range slices.Sorted(maps.Keys(r.used)) {
		if !slices.Contains(granted, name) {
			t.Errorf("%s is not granted, but needed for %s", name, r.used[name])
		}
	}
	for _, name := range granted {
		if r.used[name] == "" {
			t.Errorf("%s is granted, but no request needs it", name)
		}
	}
}

// ownTransport returns a transport that shares no connections with other tests.
// A test that closes its server also closes the idle connections of
// http.DefaultTransport.
func ownTransport() *http.Transport { return http.DefaultTransport.(*http.Transport).Clone() }

// runCheck runs the steps of "berth check", and fails the test if one fails.
func runCheck(t *testing.T, b drivers.Bucket, driver string) {
	t.Helper()
	for _, r := range check.Run(t.Context(), b, driver) {
		if r.Status == check.Failed {
			t.Errorf("berth check: %s: %s", r.Step, r.Detail)
		}
	}
}

// callAll makes each call of the contract, with success and without. A driver
// sends no other requests than those of these calls.
func callAll(t *testing.T, bucket drivers.Bucket) {
	t.Helper()
	var calls drivertest.Counter
	c := &caller{t, drivertest.Wrap(bucket, calls.Intercept)}
	c.callObjects()
	c.callUploads()
	for method := range reflect.TypeFor[drivers.Bucket]().Methods() {
		switch method.Name {
		case "SignGet", "Limits", "Close": // not counted
		default:
			if calls.ByMethod()[method.Name] == 0 {
				t.Errorf("%s was not called", method.Name)
			}
		}
	}
}

// caller makes calls that must succeed or fail.
type caller struct {
	*testing.T
	b drivers.Bucket
}

func (c *caller) must(what string, err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%s = %v", what, err)
	}
}

func (c *caller) fails(what string, err error) {
	c.Helper()
	if err == nil {
		c.Fatalf("%s = nil, want an error", what)
	}
}

func body(text string) drivers.Body { return drivers.NewBody([]byte(text)) }

func (c *caller) callObjects() {
	ctx, b := c.Context(), c.b
	o, err := b.Create(ctx, "k", body("one"))
	c.must("Create", err)
	_, err = b.Create(ctx, "k", body("two"))
	c.fails("Create of a taken key", err)
	_, err = b.Replace(ctx, "k", o.Tag, body("three"))
	c.must("Replace", err)
	_, err = b.Replace(ctx, "k", o.Tag, body("four"))
	c.fails("Replace of an old tag", err)
	c.fails("DeleteIf of an old tag", b.DeleteIf(ctx, "k", o.Tag))
	o, err = b.Stat(ctx, "k")
	c.must("Stat", err)
	_, err = b.Stat(ctx, "none")
	c.fails("Stat of an absent key", err)
	r, _, err := b.Open(ctx, "k", 1, 2)
	c.must("Open", err)
	c.must("Close", r.Close())
	_, _, err = b.Open(ctx, "none", 0, -1)
	c.fails("Open of an absent key", err)
	c.must("DeleteIf", b.DeleteIf(ctx, "k", o.Tag))
	c.must("DeleteIf of an absent key", b.DeleteIf(ctx, "k", o.Tag))
	for _, key := range []string{"a", "b", "c"} {
		_, err := b.Create(ctx, key, body(key))
		c.must("Create", err)
	}
	for _, err := range b.List(ctx, "", "", 0) {
		c.must("List", err)
	}
	c.must("Delete of one key", b.Delete(ctx, "a"))
	c.must("Delete of three keys", b.Delete(ctx, "b", "c", "none"))
}

func (c *caller) callUploads() {
	ctx, b := c.Context(), c.b
	u, err := b.StartUpload(ctx, "data/u")
	c.must("StartUpload", err)
	text := body("the whole object")
	first, err := b.PutPart(ctx, u, 1, text)
	c.must("PutPart", err)
	_, err = b.PutPart(ctx, u, 1, text) // as after a lost response; the first part stays valid
	c.must("second PutPart", err)
	for _, err := range b.Uploads(ctx, "") {
		c.must("Uploads", err)
	}
	for range 2 {
		_, err = b.Complete(ctx, u, []drivers.Part{first}, text.CRC32C)
		c.must("Complete", err)
	}
	_, err = b.StreamPart(ctx, u, 1, strings.NewReader("text"))
	c.fails("StreamPart", err)
	_, err = b.SignGet(ctx, "data/u", drivers.SignOptions{Expires: time.Minute})
	c.must("SignGet", err)

	u, err = b.StartUpload(ctx, "data/v")
	c.must("StartUpload", err)
	_, err = b.PutPart(ctx, u, 1, text)
	c.must("PutPart", err)
	for range 2 {
		c.must("Abort", b.Abort(ctx, u))
	}
}

// read reads a file of JSON or YAML into v. It fails the test if v lacks a field
// for anything in the file.
func read(t *testing.T, file string, v any) {
	t.Helper()
	decode(t, file, v, (*json.Decoder).DisallowUnknownFields)
}

// readSome is read for a v that lacks fields.
func readSome(t *testing.T, file string, v any) {
	t.Helper()
	decode(t, file, v, func(*json.Decoder) {})
}

// decode reads a file into v by a decoder that set has changed.
func decode(t *testing.T, file string, v any, set func(*json.Decoder)) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if strings.HasSuffix(file, ".json") {
		err = json.Unmarshal(data, &tree) // a YAML parser accepts more than JSON
	} else {
		err = yaml.Unmarshal(data, &tree)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	data, err = json.Marshal(tree)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	set(d)
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
