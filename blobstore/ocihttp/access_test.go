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

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/access"
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
			need, ok := req.access()
			switch {
			case !ok:
				t.Errorf("%s %s: access is not defined", m.name, target)
			case routes[i].repository && (need.Required.Repository != "a" || len(need.Required.Actions) == 0):
				t.Errorf("%s %s needs %+v, want actions on a", m.name, target, need.Required)
			case !routes[i].repository && !need.Required.IsZero():
				t.Errorf("%s %s needs %+v, want none", m.name, target, need.Required)
			}
		}
	}
	if need, ok := (request{}).access(); ok {
		t.Errorf("a request without an action needs %+v, want no access to be defined", need)
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
		{"GET", "/v2/_catalog", access.Need{}},
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
	if !a.allows(need.Required) {
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
		h := newHandler(t, bucket, blobstore.Config{}, Config{Authorizer: &authorizer{allow: c.allow}})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/v2/b/blobs/uploads/?mount="+sha256Hello+"&from=a", nil))
		if w.Code != c.want {
			t.Errorf("mount with %v = %d, want %d", c.allow, w.Code, c.want)
		}
	}
}
