package ocihttp

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/activity"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// TestEvents checks the events of each kind of request, at a store that signs. A
// request that fails or that only asks has none.
func TestEvents(t *testing.T) {
	const config, layer = "{}", "a layer that is too long to be stored in its record"
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	cd, ld := digest.FromString(config).String(), digest.FromString(layer).String()
	image := `{"schemaVersion":2,"mediaType":"` + mediaType + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + cd +
		`","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + ld + `","size":51}]}`
	id := digest.FromString(image).String()
	h := newHandler(t, drivertest.Signing(openMemory(t, &memory.Store{})), blobstore.Config{InlineMax: 10}, Config{})

	manifest := func(action activity.Action, tag string) activity.Event {
		return activity.Event{Action: action, Repository: "a", Digest: id, Tag: tag, MediaType: mediaType, Size: int64(len(image)), Manifest: true}
	}
	blob := func(action activity.Action, repository, dgst string, size int) activity.Event {
		return activity.Event{Action: action, Repository: repository, Digest: dgst, Size: int64(size), MediaType: "application/octet-stream"}
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               []activity.Event
	}{
		{http.MethodPost, "a/blobs/uploads/?digest=" + cd, config, 201, []activity.Event{blob(activity.Push, "a", cd, 2)}},
		{http.MethodPost, "a/blobs/uploads/?digest=" + ld, layer, 201, []activity.Event{blob(activity.Push, "a", ld, len(layer))}},
		{http.MethodPost, "a/blobs/uploads/?digest=" + ld, "other", 400, nil},
		{http.MethodPost, "b/blobs/uploads/?mount=" + ld + "&from=a", "", 201, []activity.Event{
			{Action: activity.Mount, Repository: "b", Digest: ld, Size: int64(len(layer)), From: "a", MediaType: "application/octet-stream"}}},
		{http.MethodPost, "b/blobs/uploads/?mount=" + ld + "&from=c", "", 202, nil},
		{http.MethodPut, "a/manifests/v1", image, 201, []activity.Event{manifest(activity.Push, ""), manifest(activity.Tag, "v1")}},
		{http.MethodPut, "a/manifests/" + id + "?tag=v2&tag=v3", image, 201,
			[]activity.Event{manifest(activity.Push, ""), manifest(activity.Tag, "v2"), manifest(activity.Tag, "v3")}},
		{http.MethodHead, "a/manifests/v1", "", 200, nil},
		{http.MethodGet, "a/manifests/v1", "", 200, []activity.Event{manifest(activity.Pull, "v1")}},
		{http.MethodGet, "a/manifests/" + id, "", 200, []activity.Event{manifest(activity.Pull, "")}},
		{http.MethodGet, "a/blobs/" + cd, "", 200, []activity.Event{blob(activity.Pull, "a", cd, 2)}},
		{http.MethodGet, "a/blobs/" + ld, "", 307, []activity.Event{blob(activity.Pull, "a", ld, len(layer))}},
		{http.MethodHead, "a/blobs/" + ld, "", 200, nil},
		{http.MethodGet, "a/blobs/" + id, "", 404, nil},
		{http.MethodDelete, "a/manifests/v2", "", 202, []activity.Event{{Action: activity.Delete, Repository: "a", Tag: "v2", Manifest: true}}},
		{http.MethodDelete, "a/manifests/" + id, "", 202, []activity.Event{{Action: activity.Delete, Repository: "a", Digest: id, Manifest: true}}},
		{http.MethodDelete, "b/blobs/" + ld, "", 202, []activity.Event{{Action: activity.Delete, Repository: "b", Digest: ld}}},
		{http.MethodGet, "a/tags/list", "", 200, nil},
	} {
		ctx, act := activity.New(t.Context())
		r := httptest.NewRequestWithContext(ctx, tc.method, "/v2/"+tc.path, strings.NewReader(tc.body))
		r.Header.Set("Content-Type", mediaType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tc.status {
			t.Errorf("%s %s = %d, want %d\n%s", tc.method, tc.path, w.Code, tc.status, w.Body)
		}
		got := act.Facts()
		if diff := cmp.Diff(tc.want, got.Events); diff != "" {
			t.Errorf("%s %s: events (-want +got):\n%s", tc.method, tc.path, diff)
		}
		if want := map[bool]string{true: "presign"}[w.Code == http.StatusTemporaryRedirect]; got.Redirect != want {
			t.Errorf("%s %s: redirected to %q, want %q", tc.method, tc.path, got.Redirect, want)
		}
	}
}
