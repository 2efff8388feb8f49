package activity

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFacts(t *testing.T) {
	ctx, r := New(t.Context())
	Of(ctx).Describe("blob", "a/b", "sha256:00", "")
	Of(ctx).SetUser("ann")
	Of(ctx).Redirected("cdn:edge")
	var requests sync.WaitGroup
	for range 100 {
		requests.Go(func() { Of(ctx).CountStoreRequest() })
	}
	requests.Wait()
	Of(ctx).Add(Event{Action: Push})
	want := Facts{Route: "blob", User: "ann", Repository: "a/b", Digest: "sha256:00", Redirect: "cdn:edge", StoreRequests: 100, Events: []Event{{Action: Push}}}
	got := r.Facts()
	Of(ctx).Add(Event{Action: Pull})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Facts (-want +got):\n%s", diff)
	}
}

// TestWithoutRequest checks that handlers work in a context that has no Request.
func TestWithoutRequest(t *testing.T) {
	r := Of(t.Context())
	r.Describe("blob", "a", "", "")
	r.SetUser("ann")
	r.Redirected("presign")
	r.CountStoreRequest()
	r.Add(Event{})
	if diff := cmp.Diff(Facts{}, r.Facts()); diff != "" {
		t.Errorf("Facts of no Request (-want +got):\n%s", diff)
	}
}
