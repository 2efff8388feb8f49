package ocihttp

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/blobstore/activity"
)

// TestEveryActionHasARoute checks that no request is logged and counted without the
// name of its route.
func TestEveryActionHasARoute(t *testing.T) {
	for a := range handlers {
		if routeNames[a] == "" {
			t.Errorf("action %d has no entry in routeNames", a)
		}
	}
}

func TestDescribe(t *testing.T) {
	const dgst = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, tc := range []struct {
		method, url string
		want        activity.Facts
	}{
		{http.MethodGet, "/v2/", activity.Facts{Route: "version"}},
		{http.MethodGet, "/v2/a/b/blobs/" + dgst, activity.Facts{Route: "blob", Repository: "a/b", Digest: dgst}},
		{http.MethodPost, "/v2/a/blobs/uploads/?mount=" + dgst + "&from=b", activity.Facts{Route: "uploads", Repository: "a", Digest: dgst}},
		{http.MethodPut, "/v2/a/manifests/v1", activity.Facts{Route: "manifest", Repository: "a", Tag: "v1"}},
		{http.MethodPut, "/v2/a/manifests/" + dgst + "?tag=v1", activity.Facts{Route: "manifest", Repository: "a", Digest: dgst, Tag: "v1"}},
		{http.MethodGet, "/v2/a/tags/list?n=3", activity.Facts{Route: "tags", Repository: "a"}},
		{http.MethodGet, "/v2/a/blobs/sha256:short", activity.Facts{Route: "blob"}},
		{http.MethodGet, "/v2/a/nothing", activity.Facts{}},
		{"BREW", "/v2/a/manifests/v1", activity.Facts{}},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		_, a := activity.New(t.Context())
		req, _ := parse(tc.method, u)
		req.describe(a)
		if diff := cmp.Diff(tc.want, a.Facts()); diff != "" {
			t.Errorf("%s %s: facts (-want +got):\n%s", tc.method, tc.url, diff)
		}
	}
}
