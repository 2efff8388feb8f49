package gcs

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestInspect reads the settings of a server that has no rules and keeps
// nothing.
func TestInspect(t *testing.T) {
	t.Parallel()
	server := emulator.FakeGCS(t)
	s, err := Inspect(t.Context(), Config{Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile})
	want := drivers.Settings{
		Lifecycle:       drivers.Setting[[]drivers.Rule]{Permission: "storage.buckets.get"},
		Versioning:      drivers.Setting[bool]{Permission: "storage.buckets.get"},
		SoftDelete:      drivers.Setting[time.Duration]{Permission: "storage.buckets.get"},
		PartsAreObjects: true,
	}
	if diff := cmp.Diff(want, s); diff != "" || err != nil {
		t.Errorf("Inspect(), %v (-want +got):\n%s", err, diff)
	}
}

// TestInspectGoogle has the answers that Google documents.
// https://cloud.google.com/storage/docs/json_api/v1/buckets#resource
func TestInspectGoogle(t *testing.T) {
	t.Parallel()
	const bucket = `{
		"versioning": {"enabled": true},
		"softDeletePolicy": {"retentionDurationSeconds": "604800", "effectiveTime": "2026-01-02T03:04:05Z"},
		"lifecycle": {"rule": [
			{"action": {"type": "Delete"}, "condition": {"age": 9, "matchesPrefix": ["team/parts/", "other/parts/"]}},
			{"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 7, "isLive": false}},
			{"action": {"type": "Delete"}, "condition": {"numNewerVersions": 3}},
			{"action": {"type": "Delete"}, "condition": {"daysSinceCustomTime": 1}},
			{"action": {"type": "Delete"}, "condition": {"age": 0, "matchesSuffix": [".tmp"]}},
			{"action": {"type": "SetStorageClass", "storageClass": "NEARLINE"}, "condition": {"age": 30}},
			{"action": {"type": "SetStorageClass", "storageClass": "ARCHIVE"}, "condition": {"isLive": false}},
			{"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}}
		]}
	}`
	inspect := func(status int, body any) drivers.Settings {
		t.Helper()
		s, err := Inspect(t.Context(), Config{Bucket: "b", Prefix: "team", Endpoint: "http://gcs.example", Transport: transport(
			func(r *http.Request) (*http.Response, error) {
				if r.URL.Path != "/storage/v1/b/b" {
					t.Errorf("Inspect asks for %s", r.URL.Path)
				}
				return answer(r, status, body)
			})})
		if err != nil {
			t.Fatalf("Inspect() = %v", err)
		}
		return s
	}
	s := inspect(http.StatusOK, json.RawMessage(bucket))
	const day = 24 * time.Hour
	want := []drivers.Rule{
		{Action: drivers.RuleExpire, Prefix: "parts/", Age: 9 * day},
		{Action: drivers.RuleDropVersions, Age: 7 * day},
		{Action: drivers.RuleDropVersions, Narrowed: true},
		{Action: drivers.RuleExpire, Narrowed: true},
		{Action: drivers.RuleCool, Age: 30 * day, Class: "NEARLINE"},
	}
	if diff := cmp.Diff(want, s.Lifecycle.Value); diff != "" || s.Lifecycle.Err != nil {
		t.Errorf("rules, %v (-want +got):\n%s", s.Lifecycle.Err, diff)
	}
	if s.Versioning.Err != nil || !s.Versioning.Value {
		t.Errorf("versioning: %+v", s.Versioning)
	}
	if s.SoftDelete.Err != nil || s.SoftDelete.Value != 7*day {
		t.Errorf("soft delete: %+v", s.SoftDelete)
	}

	s = inspect(http.StatusForbidden, "berth does not have storage.buckets.get access")
	for name, err := range map[string]error{"lifecycle": s.Lifecycle.Err, "versioning": s.Versioning.Err, "soft delete": s.SoftDelete.Err} {
		if err == nil || !strings.Contains(err.Error(), "denied") {
			t.Errorf("%s where access is denied: %v", name, err)
		}
	}
}
