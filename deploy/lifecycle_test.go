package deploy_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/storage/v1"
)

// unused is the age, in days, at which what an upload has stored can't be of
// use any more: its session is over (upload.session_lifetime), and so are the
// last request (limits.request) and berth's own collector (gc.grace, twice),
// which comes first.
func unused() int64 {
	const lifetime, request, grace = 144 * time.Hour, 6 * time.Hour, 24 * time.Hour // by default
	const day = 24 * time.Hour
	return int64((lifetime + request + 2*grace + day - 1) / day)
}

// kept is how many days deleted versions are kept.
const kept = 7

// TestS3Lifecycle: the rules are the command line's form of the API's, and take
// nothing that is current.
func TestS3Lifecycle(t *testing.T) {
	var got types.BucketLifecycleConfiguration
	read(t, "s3/lifecycle.json", &got)
	want := types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{
		{
			Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: new("")},
			AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: new(int32(unused()))},
		},
		{
			Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: new("")},
			NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: new(int32(kept))},
			Expiration:                  &types.LifecycleExpiration{ExpiredObjectDeleteMarker: new(true)},
		},
	}}
	for i := range got.Rules {
		got.Rules[i].ID = nil // a name for people
	}
	mark := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".noSmithyDocumentSerde" }, cmp.Ignore())
	if diff := cmp.Diff(want, got, mark); diff != "" {
		t.Errorf("s3/lifecycle.json (-want +got):\n%s", diff)
	}
}

// TestGCSLifecycle: parts are objects here, under parts/, and nothing else that
// is live is taken.
func TestGCSLifecycle(t *testing.T) {
	var got struct{ Lifecycle storage.BucketLifecycle }
	read(t, "gcs/lifecycle.json", &got)
	remove := &storage.BucketLifecycleRuleAction{Type: "Delete"}
	want := []*storage.BucketLifecycleRule{
		{Action: remove, Condition: &storage.BucketLifecycleRuleCondition{Age: new(unused()), MatchesPrefix: []string{"parts/"}}},
		{Action: remove, Condition: &storage.BucketLifecycleRuleCondition{DaysSinceNoncurrentTime: kept, IsLive: new(false)}},
	}
	if diff := cmp.Diff(want, got.Lifecycle.Rule); diff != "" {
		t.Errorf("gcs/lifecycle.json (-want +got):\n%s", diff)
	}
}

// TestAzureLifecycle: no rule takes a base blob. What was staged and never
// committed the service drops by itself.
func TestAzureLifecycle(t *testing.T) {
	type age struct{ DaysAfterCreationGreaterThan int }
	type actions struct{ Version, Snapshot struct{ Delete age } }
	type rule struct {
		Enabled    bool
		Name, Type string
		Definition struct {
			Filters struct{ BlobTypes, PrefixMatch []string }
			Actions actions
		}
	}
	var got struct{ Rules []rule }
	read(t, "azure/lifecycle.json", &got)
	if len(got.Rules) != 1 {
		t.Fatalf("azure/lifecycle.json has %d rules, want 1", len(got.Rules))
	}
	var want rule
	want.Enabled, want.Name, want.Type = true, got.Rules[0].Name, "Lifecycle"
	want.Definition.Filters.BlobTypes, want.Definition.Filters.PrefixMatch = []string{"blockBlob"}, []string{"CONTAINER/"}
	want.Definition.Actions.Version.Delete, want.Definition.Actions.Snapshot.Delete = age{kept}, age{kept}
	if diff := cmp.Diff(want, got.Rules[0]); diff != "" {
		t.Errorf("azure/lifecycle.json (-want +got):\n%s", diff)
	}
}
