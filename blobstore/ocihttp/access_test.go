package ocihttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// example returns a URL of the route, in repository "a".
func (r *route) example() string {
	path := "/v2/" + strings.Join(r.path, "/")
	if r.repository {
		path = "/v2/a/" + strings.Join(r.path, "/")
	}
	return strings.Replace(path, "*", sha256Hello, 1) + "?digest=" + sha256Hello
}

// Every method of every route needs access to its repository, except GET and
// HEAD of /v2/.
func TestEveryRouteNeedsAccess(t *testing.T) {
	for i := range routes {
		for _, m := range routes[i].methods {
			target, err := url.Parse(routes[i].example())
			if err != nil {
				t.Fatal(err)
			}
			req, err := parse(m.name, target)
			if err != nil || req.action != m.action {
				t.Errorf("parse(%s %s) = %+v, %v, want action %d", m.name, target, req, err, m.action)
				continue
			}
			checkNeed(t, m.name+" "+target.String(), req, routes[i].repository)
		}
	}
	if need, ok := (request{}).access(); ok {
		t.Errorf("a request without an action needs %+v, want no access to be defined", need)
	}
}

// checkNeed checks the access that a request needs. inRepository is whether it is for
// repository "a".
func checkNeed(t *testing.T, what string, req request, inRepository bool) {
	t.Helper()
	need, ok := req.access()
	switch {
	case !ok:
		t.Errorf("%s: access is not defined", what)
	case inRepository && (need.Required.Repository != "a" || len(need.Required.Actions) == 0):
		t.Errorf("%s needs %+v, want actions on a", what, need.Required)
	case req.action == actCatalog && (need.Required.Repository != "" || !slices.Equal(need.Required.Actions, []access.Action{access.Catalog})):
		t.Errorf("%s needs %+v, want the catalog", what, need.Required)
	case req.action == actVersion && !need.Required.IsZero():
		t.Errorf("%s needs %+v, want none", what, need.Required)
	}
}

func TestAccess(t *testing.T) {
	const upload = "/v2/a/b/blobs/uploads/"
	pull := access.Access{Repository: "a/b", Actions: []access.Action{access.Pull}}
	push := access.Access{Repository: "a/b", Actions: []access.Action{access.Push}}
	del := access.Access{Repository: "a/b", Actions: []access.Action{access.Delete}}
	source := access.Access{Repository: "c", Actions: []access.Action{access.Pull}}
	for _, c := range []struct {
		method, url string
		want        access.Need
	}{
		{"GET", "/v2/", access.Need{}},
		{"GET", "/v2/a/b/blobs/" + sha256Hello, access.Need{Required: pull}},
		{"HEAD", "/v2/a/b/blobs/" + sha256Hello, access.Need{Required: pull, Optional: push}},
		{"DELETE", "/v2/a/b/blobs/" + sha256Hello, access.Need{Required: del}},
		{"POST", upload, access.Need{Required: push}},
		{"POST", upload + "?mount=" + sha256Hello + "&from=c", access.Need{Required: push, Optional: source}},
		{"POST", upload + "?mount=" + sha256Hello, access.Need{Required: push}},
		{"POST", upload + "?mount=" + sha256Hello + "&from=C", access.Need{Required: push}},
		{"POST", upload + "?from=c", access.Need{Required: push}},
		{"GET", upload + "x", access.Need{Required: push}},
		{"HEAD", upload + "x", access.Need{Required: push}},
		{"PATCH", upload + "x", access.Need{Required: push}},
		{"PUT", upload + "x?digest=" + sha256Hello, access.Need{Required: push}},
		{"DELETE", upload + "x", access.Need{Required: push}},
		{"GET", "/v2/a/b/manifests/latest", access.Need{Required: pull}},
		{"HEAD", "/v2/a/b/manifests/latest", access.Need{Required: pull, Optional: push}},
		{"PUT", "/v2/a/b/manifests/latest", access.Need{Required: push}},
		{"PUT", "/v2/a/b/manifests/" + sha256Hello + "?tag=x", access.Need{Required: push}},
		{"DELETE", "/v2/a/b/manifests/latest", access.Need{Required: del}},
		{"DELETE", "/v2/a/b/manifests/" + sha256Hello, access.Need{Required: del}},
		{"GET", "/v2/a/b/tags/list", access.Need{Required: pull}},
		{"GET", "/v2/a/b/referrers/" + sha256Hello, access.Need{Required: pull}},
		{"GET", "/v2/_catalog", access.Need{Required: access.Access{Actions: []access.Action{access.Catalog}}}},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		req, err := parse(c.method, u)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := req.access()
		if diff := cmp.Diff(c.want, got); diff != "" || !ok {
			t.Errorf("access of %s %s: %v (-want +got):\n%s", c.method, c.url, ok, diff)
		}
	}
}

// authorizer allows what its list has, and records what it is asked.
type authorizer struct {
	allow []access.Access
	err   error // instead of a decision
	asked []access.Need
}

func (a *authorizer) Authorize(_ context.Context, need access.Need) (optional bool, err error) {
	a.asked = append(a.asked, need)
	if a.err != nil {
		return false, a.err
	}
	if !need.Required.IsZero() && !a.allows(need.Required) || len(a.allow) == 0 {
		return false, fmt.Errorf("%w: %s", access.ErrDenied, secret)
	}
	return a.allows(need.Optional), nil
}

func (a *authorizer) allows(want access.Access) bool {
	return slices.ContainsFunc(a.allow, func(has access.Access) bool {
		return has.Repository == want.Repository && slices.Equal(has.Actions, want.Actions)
	})
}

// The authorizer is asked once for every well-formed request, and a refusal is
// the response, whether what the request names exists or not.
func TestAuthorize(t *testing.T) {
	bucket := openMemory(t, &memory.Store{})
	pushed := digest.FromString("hello")
	missing := digest.FromString("missing")
	for i := range routes {
		for _, m := range routes[i].methods {
			for _, d := range []digest.Digest{pushed, missing} {
				a := &authorizer{}
				h := newHandler(t, bucket, blobstore.Config{}, Config{Authorizer: a})
				target := strings.ReplaceAll(routes[i].example(), sha256Hello, d.String())
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), m.name, target, nil))
				if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), `"DENIED"`) || strings.Contains(w.Body.String(), secret) {
					t.Errorf("%s %s = %d %s, want 403 DENIED without details", m.name, target, w.Code, w.Body)
				}
				if len(a.asked) != 1 {
					t.Errorf("%s %s asked the authorizer %d times, want once", m.name, target, len(a.asked))
				}
			}
		}
	}
	a := &authorizer{}
	h := newHandler(t, bucket, blobstore.Config{}, Config{Authorizer: a})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v2/A/blobs/x", nil))
	if w.Code != http.StatusBadRequest || len(a.asked) != 0 {
		t.Errorf("a malformed request = %d after asking the authorizer %d times, want 400 without asking", w.Code, len(a.asked))
	}
	a.err = errors.New(secret)
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v2/", nil))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), secret) {
		t.Errorf("an authorizer that fails = %d %s, want 500 without details", w.Code, w.Body)
	}
}

// Each error of an authorizer has its response, for every method.
func TestRefusals(t *testing.T) {
	bucket := openMemory(t, &memory.Store{})
	for _, c := range []struct {
		err        error
		want       int
		code       string
		header, is string
	}{
		{&access.UnauthenticatedError{Challenge: `Bearer realm="x"`, Reason: "log in"}, http.StatusUnauthorized, "UNAUTHORIZED", "WWW-Authenticate", `Bearer realm="x"`},
		{access.ErrDenied, http.StatusForbidden, "DENIED", "WWW-Authenticate", ""},
		{access.ErrTooMany, http.StatusTooManyRequests, "TOOMANYREQUESTS", "Retry-After", "10"},
		{access.ErrUnavailable, http.StatusServiceUnavailable, "UNAVAILABLE", "Retry-After", "5"},
	} {
		h := newHandler(t, bucket, blobstore.Config{}, Config{Authorizer: &authorizer{err: fmt.Errorf("%s: %w", secret, c.err)}})
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/v2/a/manifests/latest", nil))
			if w.Code != c.want || w.Header().Get(c.header) != c.is || !strings.Contains(w.Body.String(), c.code) || strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s with %v = %d %v %s, want %d %s with %s: %q", method, c.err, w.Code, w.Header(), w.Body, c.want, c.code, c.header, c.is)
			}
		}
	}
}

// A mount needs access to its source. Without it, the response is that of a
// source that does not have the blob.
func TestAuthorizeMount(t *testing.T) {
	bucket := openMemory(t, &memory.Store{})
	push := access.Access{Repository: "b", Actions: []access.Action{access.Push}}
	pull := access.Access{Repository: "a", Actions: []access.Action{access.Pull}}
	w := httptest.NewRecorder()
	newHandler(t, bucket, blobstore.Config{}, Config{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(),
		"POST", "/v2/a/blobs/uploads/?digest="+sha256Hello, strings.NewReader("hello")))
	if w.Code != http.StatusCreated {
		t.Fatalf("POST = %d, want 201", w.Code)
	}
	for _, c := range []struct {
		allow []access.Access
		want  int
	}{
		{[]access.Access{push}, http.StatusAccepted},
		{[]access.Access{pull}, http.StatusForbidden},
		{[]access.Access{push, pull}, http.StatusCreated},
	} {
		for _, from := range []string{"&from=a", ""} {
			h := newHandler(t, bucket, blobstore.Config{}, Config{Authorizer: &authorizer{allow: c.allow}})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/v2/b/blobs/uploads/?mount="+sha256Hello+from, nil))
			if w.Code != c.want {
				t.Errorf("mount %q with %v = %d, want %d", from, c.allow, w.Code, c.want)
			}
		}
	}
}

// forgetful is an authorizer that cannot decide about repositories that the request does
// not name.
type forgetful struct{ err error }

func (f forgetful) Authorize(_ context.Context, need access.Need) (bool, error) {
	if need.Required.IsZero() {
		return false, f.err
	}
	return false, nil
}

// A mount without a source fails if the authorizer cannot decide about any source that
// has the blob. A denial is a decision.
func TestAuthorizeMountUndecided(t *testing.T) {
	bucket := openMemory(t, &memory.Store{})
	for err, want := range map[error]int{errors.New(secret): http.StatusInternalServerError, access.ErrDenied: http.StatusAccepted, nil: http.StatusAccepted} {
		h := newHandler(t, bucket, blobstore.Config{}, Config{Authorizer: forgetful{err}})
		push := httptest.NewRequestWithContext(t.Context(), "POST", "/v2/a/blobs/uploads/?digest="+sha256Hello, strings.NewReader("hello"))
		h.ServeHTTP(httptest.NewRecorder(), push)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/v2/b/blobs/uploads/?mount="+sha256Hello, nil))
		if w.Code != want || strings.Contains(w.Body.String(), secret) {
			t.Errorf("mount with an authorizer that returns %v = %d %s, want %d", err, w.Code, w.Body, want)
		}
	}
}

// HEAD by a caller who may push takes the collector's mark off what exists, so that the
// caller can refer to it. HEAD by others, and GET, leave the mark.
func TestHeadTakesMarkOff(t *testing.T) {
	bucket := openMemory(t, &memory.Store{})
	c := catalog.New(bucket)
	pull := access.Access{Repository: "a", Actions: []access.Action{access.Pull}}
	push := access.Access{Repository: "a", Actions: []access.Action{access.Push}}
	send := func(a access.Authorizer, method, target, body string, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		newHandler(t, bucket, blobstore.Config{}, Config{Authorizer: a}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body)))
		if w.Code != want {
			t.Fatalf("%s %s = %d %s, want %d", method, target, w.Code, w.Body, want)
		}
	}
	send(nil, "POST", "/v2/a/blobs/uploads/?digest="+digestOf("hello"), "hello", http.StatusCreated)
	send(nil, "PUT", manifestsURL+"latest", someImage, http.StatusCreated)
	image, blob := digest.FromString(someImage), digest.FromString("hello")
	for _, test := range []struct {
		allow  []access.Access // nil for no authorizer
		method string
		marked bool // afterwards
	}{
		{[]access.Access{pull}, "HEAD", true},
		{[]access.Access{pull, push}, "GET", true},
		{[]access.Access{pull, push}, "HEAD", false},
		{nil, "HEAD", false},
	} {
		m, err := c.ReadManifest(t.Context(), "a", image)
		if err != nil {
			t.Fatal(err)
		}
		m.Value.State = catalog.Condemned
		if _, err := c.ReplaceManifest(t.Context(), deadline.New(time.Minute), m, m.Value, m.Raw); err != nil {
			t.Fatal(err)
		}
		link, err := c.ReadLink(t.Context(), blob, "a")
		if err != nil {
			t.Fatal(err)
		}
		link.Value.Condemned = true
		if _, err := envelope.Replace(t.Context(), bucket, link.Object.Key, link.Object.Tag, link.Value, drivers.NewBody(link.Raw)); err != nil {
			t.Fatal(err)
		}
		var a access.Authorizer
		if test.allow != nil {
			a = &authorizer{allow: test.allow}
		}
		send(a, test.method, manifestsURL+"latest", "", http.StatusOK)
		send(a, test.method, "/v2/a/blobs/"+blob.String(), "", http.StatusOK)
		m, err = c.ReadManifest(t.Context(), "a", image)
		if err != nil || (m.Value.State == catalog.Condemned) != test.marked {
			t.Errorf("after %s with %v the manifest is %v, %v, want a mark: %v", test.method, test.allow, m.Value.State, err, test.marked)
		}
		link, err = c.ReadLink(t.Context(), blob, "a")
		if err != nil || link.Value.Condemned != test.marked {
			t.Errorf("after %s with %v the link has a mark: %v, %v, want %v", test.method, test.allow, link.Value.Condemned, err, test.marked)
		}
	}
}
