package deploy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/storage/v1"

	"github.com/berthhq/berth/cmd/berth/check"
	"github.com/berthhq/berth/drivers/gcs"
	"github.com/berthhq/berth/drivers/inspect"
	"github.com/berthhq/berth/drivers/s3"
)

// The defaults of upload.session_lifetime, limits.request and gc.grace.
const lifetime, request, grace = 144 * time.Hour, 6 * time.Hour, 24 * time.Hour

// abandonedDays returns the age in days at which an upload is certainly abandoned:
// its session and its last request have ended, and the collector has had time to
// delete it first.
func abandonedDays() int64 {
	const day = 24 * time.Hour
	return int64((lifetime + request + 2*grace + day - 1) / day)
}

// versionDays is how many days deleted versions are kept.
const versionDays = 7

// wantNoWarning fails the test if "berth check" fails, or warns, for a bucket that
// has versions and the rules in the file.
func wantNoWarning(t *testing.T, file string, settings inspect.Settings, err error) {
	t.Helper()
	if err != nil || settings.Lifecycle.Err != nil || !settings.Versioning.Value {
		t.Fatalf("%s: Inspect = %+v, %v, want rules and versions", file, settings, err)
	}
	for _, r := range check.Settings(settings, check.Lifetimes{Session: lifetime, Request: request}) {
		if r.Status == check.Failed || r.Status == check.Warning {
			t.Errorf("%s: berth check: %s: %s: %s", file, r.Step, r.Status, r.Detail)
		}
	}
}

// TestS3Lifecycle checks that the rules never delete current objects. The file is
// in the form that the command line accepts.
func TestS3Lifecycle(t *testing.T) {
	t.Parallel()
	var got types.BucketLifecycleConfiguration
	read(t, "s3/lifecycle.json", &got)
	want := types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{
		{
			Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: new("")},
			AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: new(int32(abandonedDays()))},
		},
		{
			Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: new("")},
			NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: new(int32(versionDays))},
			Expiration:                  &types.LifecycleExpiration{ExpiredObjectDeleteMarker: new(true)},
		},
	}}
	for i := range got.Rules {
		got.Rules[i].ID = nil // a name for operators
	}
	internal := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".noSmithyDocumentSerde" }, cmp.Ignore())
	if diff := cmp.Diff(want, got, internal); diff != "" {
		t.Errorf("s3/lifecycle.json (-want +got):\n%s", diff)
	}

	var rules []byte // the body of the last PUT
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		switch q := r.URL.Query(); {
		case r.Method == http.MethodPut && q.Has("lifecycle"):
			rules, _ = io.ReadAll(r.Body) // if this fails, Inspect finds no rules
		case q.Has("lifecycle"):
			_, _ = w.Write(rules)
		case q.Has("versioning"):
			_, _ = io.WriteString(w, "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
		}
	}))
	t.Cleanup(server.Close)
	cfg := s3.Config{Bucket: "bucket", Endpoint: server.URL, PathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret"}
	client := awss3.New(awss3.Options{
		Region: "us-east-1", BaseEndpoint: &cfg.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, cfg.SecretAccessKey, ""),
	})
	if _, err := client.PutBucketLifecycleConfiguration(t.Context(), &awss3.PutBucketLifecycleConfigurationInput{
		Bucket: &cfg.Bucket, LifecycleConfiguration: &got,
	}); err != nil {
		t.Fatal(err)
	}
	settings, err := s3.Inspect(t.Context(), cfg)
	wantNoWarning(t, "s3/lifecycle.json", settings, err)
}

// TestGCSLifecycle checks that the rules delete, of the live objects, only those
// under parts/, which are the parts of uploads.
func TestGCSLifecycle(t *testing.T) {
	t.Parallel()
	var got struct{ Lifecycle storage.BucketLifecycle }
	read(t, "gcs/lifecycle.json", &got)
	remove := &storage.BucketLifecycleRuleAction{Type: "Delete"}
	want := []*storage.BucketLifecycleRule{
		{Action: remove, Condition: &storage.BucketLifecycleRuleCondition{Age: new(abandonedDays()), MatchesPrefix: []string{"parts/"}}},
		{Action: remove, Condition: &storage.BucketLifecycleRuleCondition{DaysSinceNoncurrentTime: versionDays, IsLive: new(false)}},
	}
	if diff := cmp.Diff(want, got.Lifecycle.Rule); diff != "" {
		t.Errorf("gcs/lifecycle.json (-want +got):\n%s", diff)
	}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		bucket := storage.Bucket{Lifecycle: &got.Lifecycle, Versioning: &storage.BucketVersioning{Enabled: true}}
		_ = json.NewEncoder(w).Encode(bucket) // if this fails, Inspect finds no rules
	}))
	t.Cleanup(server.Close)
	settings, err := gcs.Inspect(t.Context(), gcs.Config{Bucket: "bucket", Endpoint: server.URL})
	wantNoWarning(t, "gcs/lifecycle.json", settings, err)
}

// TestAzureLifecycle checks that no rule deletes a base blob. The service itself
// drops blocks that were staged and never committed.
func TestAzureLifecycle(t *testing.T) {
	t.Parallel()
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
	want.Definition.Actions.Version.Delete, want.Definition.Actions.Snapshot.Delete = age{versionDays}, age{versionDays}
	if diff := cmp.Diff(want, got.Rules[0]); diff != "" {
		t.Errorf("azure/lifecycle.json (-want +got):\n%s", diff)
	}
}
