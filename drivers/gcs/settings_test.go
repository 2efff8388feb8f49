package gcs

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/inspect"
)

// TestInspect reads the settings of a server without rules and retention.
func TestInspect(t *testing.T) {
	t.Parallel()
	server := emulator.FakeGCS(t)
	s, err := Inspect(t.Context(), Config{Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile})
	want := inspect.Settings{
		Lifecycle:       inspect.Setting[[]inspect.Rule]{Permission: "storage.buckets.get"},
		Versioning:      inspect.Setting[bool]{Permission: "storage.buckets.get"},
		SoftDelete:      inspect.Setting[time.Duration]{Permission: "storage.buckets.get"},
		Retention:       inspect.Setting[time.Duration]{Permission: "storage.buckets.get"},
		Held:            inspect.Setting[bool]{Permission: "storage.buckets.get"},
		RequesterPays:   inspect.Setting[bool]{Permission: "storage.buckets.get"},
		Hierarchical:    inspect.Setting[bool]{Permission: "storage.objects.list"},
		PartsAreObjects: true,
	}
	if diff := cmp.Diff(want, s); diff != "" || err != nil {
		t.Errorf("Inspect() = %v (-want +got):\n%s", err, diff)
	}
}

// TestInspectGoogle inspects a store that returns what Google documents.
// https://cloud.google.com/storage/docs/json_api/v1/buckets#resource
func TestInspectGoogle(t *testing.T) {
	t.Parallel()
	const bucket = `{
		"versioning": {"enabled": true},
		"softDeletePolicy": {"retentionDurationSeconds": "604800", "effectiveTime": "2026-01-02T03:04:05Z"},
		"retentionPolicy": {"retentionPeriod": "3600", "effectiveTime": "2026-01-02T03:04:05Z"},
		"defaultEventBasedHold": true,
		"billing": {"requesterPays": true},
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
	s := settingsOf(t, http.StatusOK, json.RawMessage(bucket))
	const day = 24 * time.Hour
	want := []inspect.Rule{
		{Action: inspect.RuleExpire, Prefix: "parts/", Age: 9 * day},
		{Action: inspect.RuleDropVersions, Age: 7 * day},
		{Action: inspect.RuleDropVersions, Narrowed: true},
		{Action: inspect.RuleExpire, Narrowed: true},
		{Action: inspect.RuleCool, Age: 30 * day, Class: "NEARLINE"},
	}
	if diff := cmp.Diff(want, s.Lifecycle.Value); diff != "" || s.Lifecycle.Err != nil {
		t.Errorf("Lifecycle.Err = %v, Lifecycle.Value (-want +got):\n%s", s.Lifecycle.Err, diff)
	}
	if s.Versioning.Err != nil || !s.Versioning.Value {
		t.Errorf("Versioning = %+v, want true", s.Versioning)
	}
	if s.SoftDelete.Err != nil || s.SoftDelete.Value != 7*day {
		t.Errorf("SoftDelete = %+v, want a week", s.SoftDelete)
	}
	if s.Retention.Err != nil || s.Retention.Value != time.Hour {
		t.Errorf("Retention = %+v, want an hour", s.Retention)
	}
	for name, setting := range map[string]inspect.Setting[bool]{"Held": s.Held, "RequesterPays": s.RequesterPays, "Hierarchical": s.Hierarchical} {
		if setting.Err != nil || !setting.Value {
			t.Errorf("%s = %+v, want true", name, setting)
		}
	}
}

// TestInspectDenied inspects a store that refuses to return its settings.
func TestInspectDenied(t *testing.T) {
	t.Parallel()
	s := settingsOf(t, http.StatusForbidden, "berth does not have storage.buckets.get access")
	for name, err := range map[string]error{
		"Lifecycle": s.Lifecycle.Err, "Versioning": s.Versioning.Err, "SoftDelete": s.SoftDelete.Err,
		"Retention": s.Retention.Err, "Held": s.Held.Err, "RequesterPays": s.RequesterPays.Err,
	} {
		if err == nil || !strings.Contains(err.Error(), "denied") {
			t.Errorf("%s.Err = %v, want \"denied\" in it", name, err)
		}
	}
}

// settingsOf returns the settings of a store that returns this status and body.
func settingsOf(t *testing.T, status int, body any) inspect.Settings {
	t.Helper()
	s, err := Inspect(t.Context(), Config{Bucket: "b", Prefix: "team", Endpoint: "http://gcs.example", Transport: transport(
		func(r *http.Request) (*http.Response, error) {
			switch r.URL.Path {
			case "/storage/v1/b/b/storageLayout":
				return answer(r, http.StatusOK, json.RawMessage(`{"hierarchicalNamespace": {"enabled": true}}`))
			case "/storage/v1/b/b":
				return answer(r, status, selected(t, body, r.URL.Query().Get("fields")))
			default:
				t.Errorf("unexpected request to %s", r.URL.Path)
				return answer(r, http.StatusNotFound, "no")
			}
		})})
	if err != nil {
		t.Fatalf("Inspect() = %v", err)
	}
	return s
}

// selected returns the fields of body that a request selects. The store returns no
// other fields.
func selected(t *testing.T, body any, fields string) any {
	t.Helper()
	text, ok := body.(json.RawMessage)
	if !ok {
		return body
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	some := map[string]any{}
	for name := range strings.SplitSeq(fields, ",") {
		if v, ok := all[name]; ok {
			some[name] = v
		}
	}
	return some
}

// TestOpenHierarchical checks that Open logs a warning for a bucket with a
// hierarchical namespace. If the store does not report that, there is no
// warning.
func TestOpenHierarchical(t *testing.T) {
	server := emulator.FakeGCS(t)
	store := newTransport()
	for layout, want := range map[string]int{
		`{"hierarchicalNamespace": {"enabled": true}}`:  1,
		`{"hierarchicalNamespace": {"enabled": false}}`: 0,
		"": 0,
	} {
		var log bytes.Buffer
		b, err := Open(t.Context(), Config{
			Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile,
			Log: slog.New(slog.NewTextHandler(&log, nil)),
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				switch {
				case !strings.HasSuffix(r.URL.Path, "/storageLayout"):
					return store.RoundTrip(r)
				case layout == "":
					return answer(r, http.StatusNotFound, "no")
				default:
					return answer(r, http.StatusOK, json.RawMessage(layout))
				}
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		if n := strings.Count(log.String(), "hierarchical namespace"); n != want {
			t.Errorf("layout %q: %d warnings, want %d:\n%s", layout, n, want, &log)
		}
	}
}
