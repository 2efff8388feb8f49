// Package deploy_test checks the examples against the code.
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

// recorder is what stands between a driver and its store. It notes which
// permissions the requests take, by the vendor's table of them.
type recorder struct {
	// permissions returns the permissions that a request needs. ok is false if the
	// table has no entry for it, which must then be added.
	permissions func(*http.Request) (names []string, ok bool)

	base http.RoundTripper

	mu      sync.Mutex
	used    map[string]string // and by which request
	unknown []string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.note(req)
	return r.base.RoundTrip(req)
}

func (r *recorder) note(req *http.Request) {
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

// forget resets the recorder.
func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used, r.unknown = nil, nil
}

// grants fails the test unless what is granted is what was used.
func (r *recorder) grants(t *testing.T, granted ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, request := range r.unknown {
		t.Errorf("which permission does it take to %s?", request)
	}
	for _, name := range slices.Sorted(maps.Keys(r.used)) {
		if !slices.Contains(granted, name) {
			t.Errorf("%s is not granted, and it takes that to %s", name, r.used[name])
		}
	}
	for _, name := range granted {
		if r.used[name] == "" {
			t.Errorf("%s is granted, and no request takes it", name)
		}
	}
}

// ownTransport shares no connections with other tests, which close the idle ones
// of http.DefaultTransport when they close a server.
func ownTransport() *http.Transport { return http.DefaultTransport.(*http.Transport).Clone() }

// proven runs all of `berth check`.
func proven(t *testing.T, b drivers.Bucket, driver string) {
	t.Helper()
	for _, r := range check.Run(t.Context(), b, driver) {
		if r.Status == check.Failed {
			t.Errorf("berth check: %s: %s", r.Step, r.Detail)
		}
	}
}

// exercise calls each method of the contract, with and without success: for the
// requests that this makes are all that a driver ever makes.
func exercise(t *testing.T, bucket drivers.Bucket) {
	t.Helper()
	var calls drivertest.Counter
	b := drivertest.Wrap(bucket, calls.Intercept)
	ctx := t.Context()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	fails := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s succeeded", what)
		}
	}
	body := func(text string) drivers.Body { return drivers.NewBody([]byte(text)) }

	o, err := b.Create(ctx, "k", body("one"))
	must("Create", err)
	_, err = b.Create(ctx, "k", body("two"))
	fails("Create of a taken key", err)
	_, err = b.Replace(ctx, "k", o.Tag, body("three"))
	must("Replace", err)
	_, err = b.Replace(ctx, "k", o.Tag, body("four"))
	fails("Replace by an old tag", err)
	fails("DeleteIf by an old tag", b.DeleteIf(ctx, "k", o.Tag))
	o, err = b.Stat(ctx, "k")
	must("Stat", err)
	_, err = b.Stat(ctx, "none")
	fails("Stat of nothing", err)
	r, _, err := b.Open(ctx, "k", 1, 2)
	must("Open", err)
	must("Close", r.Close())
	_, _, err = b.Open(ctx, "none", 0, -1)
	fails("Open of nothing", err)
	must("DeleteIf", b.DeleteIf(ctx, "k", o.Tag))
	must("DeleteIf of nothing", b.DeleteIf(ctx, "k", o.Tag))
	for _, key := range []string{"a", "b", "c"} {
		_, err := b.Create(ctx, key, body(key))
		must("Create", err)
	}
	for _, err := range b.List(ctx, "", "") {
		must("List", err)
	}
	must("Delete of one", b.Delete(ctx, "a"))
	must("Delete of many", b.Delete(ctx, "b", "c", "none"))

	u, err := b.StartUpload(ctx, "data/u")
	must("StartUpload", err)
	text := body("all there is")
	first, err := b.PutPart(ctx, u, 1, text)
	must("PutPart", err)
	_, err = b.PutPart(ctx, u, 1, text) // an honest repeat, after which the first must still do
	must("PutPart again", err)
	for _, err := range b.Uploads(ctx, "") {
		must("Uploads", err)
	}
	_, err = b.Complete(ctx, u, []drivers.Part{first}, text.CRC32C)
	must("Complete", err)
	_, err = b.Complete(ctx, u, []drivers.Part{first}, text.CRC32C)
	must("Complete again", err)
	_, err = b.StreamPart(ctx, u, 1, strings.NewReader("text"))
	fails("StreamPart", err)
	_, err = b.SignGet(ctx, "data/u", drivers.SignOptions{Expires: time.Minute})
	must("SignGet", err)

	u, err = b.StartUpload(ctx, "data/v")
	must("StartUpload", err)
	_, err = b.PutPart(ctx, u, 1, text)
	must("PutPart", err)
	must("Abort", b.Abort(ctx, u))
	must("Abort again", b.Abort(ctx, u))

	for method := range reflect.TypeFor[drivers.Bucket]().Methods() {
		switch method.Name {
		case "SignGet", "Limits", "Close": // are not counted
		default:
			if calls.ByMethod()[method.Name] == 0 {
				t.Errorf("%s was not called", method.Name)
			}
		}
	}
}

// read reads a file of JSON or YAML into v, and refuses what v has no place for.
func read(t *testing.T, file string, v any) {
	t.Helper()
	decode(t, file, v, (*json.Decoder).DisallowUnknownFields)
}

// readSome is read, of what v has a place for.
func readSome(t *testing.T, file string, v any) {
	t.Helper()
	decode(t, file, v, func(*json.Decoder) {})
}

func decode(t *testing.T, file string, v any, set func(*json.Decoder)) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if strings.HasSuffix(file, ".json") {
		err = json.Unmarshal(data, &tree) // YAML takes more for JSON than is
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
