package check

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers/inspect"
)

const day = 24 * time.Hour

// s3Settings returns the settings of a well configured bucket with these rules.
func s3Settings(rules ...inspect.Rule) inspect.Settings {
	return inspect.Settings{
		Lifecycle:  inspect.Setting[[]inspect.Rule]{Value: rules, Permission: "s3:GetLifecycleConfiguration"},
		Versioning: inspect.Setting[bool]{Permission: "s3:GetBucketVersioning"},
		SoftDelete: inspect.Setting[time.Duration]{Err: errors.ErrUnsupported},
		Tiering:    inspect.Setting[[]inspect.Rule]{Permission: "s3:GetIntelligentTieringConfiguration"},
		Lock:       inspect.Setting[inspect.Lock]{Permission: "s3:GetBucketObjectLockConfiguration"},
		Payment:    inspect.Setting[bool]{Permission: "s3:GetBucketRequestPayment"},
	}
}

func gcsSettings(rules ...inspect.Rule) inspect.Settings {
	return inspect.Settings{Lifecycle: inspect.Setting[[]inspect.Rule]{Value: rules}, PartsAreObjects: true}
}

var (
	errDeniedSetting = errors.New("access is denied")

	abort = inspect.Rule{ID: "abort", Action: inspect.RuleAbortUploads, Age: 9 * day}
	parts = inspect.Rule{Action: inspect.RuleExpire, Prefix: "parts/", Age: 9 * day}
)

// with returns a changed copy of v.
func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

// settingsCases are settings of buckets, and the result of one step for each.
var settingsCases = []struct {
	name     string
	settings inspect.Settings
	step     string
	status   Status
	text     string // in the result
}{
	{"S3", s3Settings(abort), "abandoned uploads", OK, `"abort" deletes them after 9 days`},
	{"S3", s3Settings(abort), "lifecycle rules", OK, ""},
	{"S3", s3Settings(abort), "versions", OK, "off"},
	{"S3", s3Settings(abort), "soft delete", Skipped, ""},
	{"S3 without a rule", s3Settings(), "abandoned uploads", Warning, "AbortIncompleteMultipartUpload"},
	{"a rule for some keys", s3Settings(with(abort, func(r *inspect.Rule) { r.Prefix = "data/new/" })), "abandoned uploads", Warning, "no lifecycle rule"},
	{"a rule for another prefix", s3Settings(with(abort, func(r *inspect.Rule) { r.Prefix, r.Age = "uploads/", day })), "abandoned uploads", Warning, "no lifecycle rule"},
	{"a short rule", s3Settings(with(abort, func(r *inspect.Rule) { r.Age = 5 * day })), "abandoned uploads", Failed, "after 5 days"},
	{"a short rule for some keys", s3Settings(abort, with(abort, func(r *inspect.Rule) { r.Prefix, r.Age = "data/sha256/", day })),
		"abandoned uploads", Failed, "after a day"},
	{"a rule that ends with the session", s3Settings(with(abort, func(r *inspect.Rule) { r.Age = 6 * day })), "abandoned uploads", Warning, "last request"},
	{"unreadable rules", with(s3Settings(), func(s *inspect.Settings) { s.Lifecycle.Err = errDeniedSetting }),
		"abandoned uploads", Warning, "s3:GetLifecycleConfiguration"},
	{"unreadable rules", with(s3Settings(), func(s *inspect.Settings) { s.Lifecycle.Err = errDeniedSetting }),
		"lifecycle rules", Warning, "s3:GetLifecycleConfiguration"},
	{"no rules on this store", with(s3Settings(), func(s *inspect.Settings) { s.Lifecycle.Err = errors.ErrUnsupported }), "abandoned uploads", Skipped, ""},
	{"a rule that deletes", s3Settings(inspect.Rule{ID: "old", Action: inspect.RuleExpire, Age: 30 * day}), "lifecycle rules", Failed, `"old" deletes objects after 30 days`},
	{"a rule that deletes parts on a store without them", s3Settings(parts), "lifecycle rules", Failed, "under parts/"},
	{"a rule that archives", s3Settings(inspect.Rule{Action: inspect.RuleArchive, Prefix: "data/", Class: "GLACIER", Age: 90 * day}),
		"lifecycle rules", Failed, "GLACIER"},
	{"a rule for other keys", s3Settings(inspect.Rule{Action: inspect.RuleExpire, Prefix: "logs/", Age: day}), "lifecycle rules", OK, ""},
	{"a rule for the keys of berth check", s3Settings(inspect.Rule{Action: inspect.RuleExpire, Prefix: "meta/check/", Age: day}), "lifecycle rules", OK, ""},
	{"an immediate rule", s3Settings(inspect.Rule{Action: inspect.RuleExpire, Prefix: "uploads/"}), "lifecycle rules", Failed, "under uploads/ immediately"},
	{"versions", with(s3Settings(abort), func(s *inspect.Settings) { s.Versioning.Value = true }), "versions", Warning, "NoncurrentVersionExpiration"},
	{"versions, and a rule", with(s3Settings(inspect.Rule{Action: inspect.RuleDropVersions, Age: 7 * day}), func(s *inspect.Settings) { s.Versioning.Value = true }),
		"versions", OK, "after 7 days"},
	{"versions, and a rule for some keys", with(s3Settings(inspect.Rule{Action: inspect.RuleDropVersions, Narrowed: true}),
		func(s *inspect.Settings) { s.Versioning.Value = true }), "versions", Warning, "all of them"},
	{"unreadable versions", with(s3Settings(), func(s *inspect.Settings) { s.Versioning.Err = errDeniedSetting }), "versions", Warning, "s3:GetBucketVersioning"},

	{"suspended versions", with(s3Settings(abort), func(s *inspect.Settings) { s.Suspended = true }), "versions", Warning, "older versions are kept"},
	{"suspended versions, and a rule", with(s3Settings(inspect.Rule{Action: inspect.RuleDropVersions, Age: 7 * day}), func(s *inspect.Settings) { s.Suspended = true }),
		"versions", OK, "after 7 days"},
	{"archive tiers", s3Settings(abort), "archive tiers", OK, "none affects"},
	{"archive tiers for all keys", with(s3Settings(abort), func(s *inspect.Settings) {
		s.Tiering.Value = []inspect.Rule{{ID: "cold", Action: inspect.RuleArchive, Age: 90 * day, Class: "ARCHIVE_ACCESS"}}
	}), "archive tiers", Failed, `"cold" of S3 Intelligent-Tiering moves objects to ARCHIVE_ACCESS after 90 days`},
	{"archive tiers for another prefix", with(s3Settings(abort), func(s *inspect.Settings) {
		s.Tiering.Value = []inspect.Rule{{ID: "cold", Action: inspect.RuleArchive, Prefix: "logs/", Age: 90 * day}}
	}), "archive tiers", OK, "none affects"},
	{"unreadable archive tiers", with(s3Settings(abort), func(s *inspect.Settings) { s.Tiering.Err = errDeniedSetting }),
		"archive tiers", Warning, "s3:GetIntelligentTieringConfiguration"},
	{"no archive tiers on this store", with(s3Settings(abort), func(s *inspect.Settings) { s.Tiering.Err = errors.ErrUnsupported }), "archive tiers", Skipped, ""},
	{"no lock", s3Settings(abort), "object lock", OK, "off"},
	{"a lock", with(s3Settings(abort), func(s *inspect.Settings) { s.Lock.Value.Enabled = true }), "object lock", OK, "without a default retention"},
	{"a lock with a retention", with(s3Settings(abort), func(s *inspect.Settings) { s.Lock.Value = inspect.Lock{Enabled: true, Retention: 30 * day} }),
		"object lock", Warning, "30 days"},
	{"a lock without checksums", with(s3Settings(abort), func(s *inspect.Settings) { s.Lock.Value = inspect.Lock{Enabled: true, Unchecked: true} }),
		"object lock", Failed, "storage.s3.checksum is none"},
	{"requester pays", with(s3Settings(abort), func(s *inspect.Settings) { s.Payment.Value = true }), "requester pays", Warning, "storage.s3.request_payer"},
	{"owner pays", s3Settings(abort), "requester pays", OK, "off"},

	{"GCS", gcsSettings(parts), "abandoned uploads", OK, "after 9 days"},
	{"GCS", gcsSettings(parts), "lifecycle rules", OK, ""},
	{"GCS", gcsSettings(parts), "soft delete", OK, "off"},
	{"GCS without a rule", gcsSettings(), "abandoned uploads", Warning, "under parts/ (after storage.prefix) at an age of 9 days"},
	{"GCS, a rule that deletes all", gcsSettings(inspect.Rule{Action: inspect.RuleExpire, Age: day}), "abandoned uploads", Failed, "after a day"},
	{"GCS, a rule that deletes all", gcsSettings(inspect.Rule{Action: inspect.RuleExpire, Age: day}), "lifecycle rules", Failed, "deletes objects"},
	{"GCS, a class for parts", gcsSettings(parts, inspect.Rule{Action: inspect.RuleCool, Class: "NEARLINE", Age: day}),
		"abandoned uploads", Failed, "after a day"},
	{"GCS, a class for records", gcsSettings(inspect.Rule{Action: inspect.RuleCool, Class: "NEARLINE", Age: 30 * day}),
		"lifecycle rules", Warning, "the prefix data/"},
	{"GCS, a class for data", gcsSettings(inspect.Rule{Action: inspect.RuleCool, Prefix: "data/", Class: "NEARLINE", Age: 30 * day}),
		"lifecycle rules", OK, ""},
	{"GCS, soft delete", with(gcsSettings(parts), func(s *inspect.Settings) { s.SoftDelete.Value = 7 * day }), "soft delete", Warning, "for 7 more days"},
	{"GCS, soft delete", with(gcsSettings(parts), func(s *inspect.Settings) { s.SoftDelete.Value = 7 * day }), "soft delete", Warning, "composed of are not kept"},

	{"GCS, retention", with(gcsSettings(parts), func(s *inspect.Settings) {
		s.Retention = inspect.Setting[time.Duration]{Value: time.Hour, Permission: "p"}
	}),
		"retention", Failed, "for 1h0m0s"},
	{"GCS, no retention", with(gcsSettings(parts), func(s *inspect.Settings) { s.Retention.Permission = "p" }), "retention", OK, "none"},
	{"GCS, unreadable retention", with(gcsSettings(parts), func(s *inspect.Settings) { s.Retention.Err = errDeniedSetting }),
		"retention", Skipped, "replaced and deleted"},
	{"GCS, holds", with(gcsSettings(parts), func(s *inspect.Settings) { s.Held = inspect.Setting[bool]{Value: true, Permission: "p"} }),
		"holds", Failed, "event-based hold"},
	{"GCS, no holds", with(gcsSettings(parts), func(s *inspect.Settings) { s.Held.Permission = "p" }), "holds", OK, "none"},
	{"GCS, requester pays", with(gcsSettings(parts), func(s *inspect.Settings) { s.RequesterPays = inspect.Setting[bool]{Value: true, Permission: "p"} }),
		"requester pays", Failed, "Requester Pays off"},
	{"GCS, requester doesn't pay", with(gcsSettings(parts), func(s *inspect.Settings) { s.RequesterPays.Permission = "p" }), "requester pays", OK, "off"},
	{"GCS, folders", with(gcsSettings(parts), func(s *inspect.Settings) { s.Hierarchical = inspect.Setting[bool]{Value: true, Permission: "p"} }),
		"hierarchical namespace", Failed, "folders"},
	{"GCS, no folders", with(gcsSettings(parts), func(s *inspect.Settings) { s.Hierarchical.Permission = "p" }), "hierarchical namespace", OK, "off"},

	{"Azure", inspect.Settings{PartsKept: 7 * day, Lifecycle: inspect.Setting[[]inspect.Rule]{Err: fmt.Errorf("%w: look elsewhere", errors.ErrUnsupported)}},
		"abandoned uploads", OK, "after 7 days"},
	{"Azure", inspect.Settings{PartsKept: 7 * day, Lifecycle: inspect.Setting[[]inspect.Rule]{Err: fmt.Errorf("%w: look elsewhere", errors.ErrUnsupported)}},
		"lifecycle rules", Skipped, "look elsewhere"},
	{"Azure, parts kept too short", inspect.Settings{PartsKept: day}, "abandoned uploads", Failed, "upload.session_lifetime"},
	{"Azure, versions", inspect.Settings{
		Versioning: inspect.Setting[bool]{Value: true},
		Lifecycle:  inspect.Setting[[]inspect.Rule]{Err: errors.ErrUnsupported},
	}, "versions", Warning, "cannot be read"},
}

// TestSettings checks that each step reports the settings that it is for.
func TestSettings(t *testing.T) {
	for _, tc := range settingsCases {
		t.Run(tc.name+", "+tc.step, func(t *testing.T) {
			results := Settings(tc.settings, Lifetimes{Session: 144 * time.Hour, Request: 6 * time.Hour})
			for _, r := range results {
				if r.Step != tc.step {
					continue
				}
				if r.Status != tc.status || !strings.Contains(r.Detail+" "+r.Impact+" "+r.Fix, tc.text) {
					t.Errorf("got %+v, want %s with %q", r, tc.status, tc.text)
				}
				if wrong := r.Status == Failed || r.Status == Warning; wrong != (r.Impact != "" && r.Fix != "") {
					t.Errorf("got %+v, want an impact and a fix if and only if something is wrong", r)
				}
				return
			}
			t.Fatalf("no step %q in %+v", tc.step, results)
		})
	}
}

// TestSettingsLeftOut checks that a setting has no step for a store without it.
func TestSettingsLeftOut(t *testing.T) {
	for _, r := range Settings(inspect.Settings{}, Lifetimes{}) {
		switch r.Step {
		case "retention", "holds", "requester pays", "hierarchical namespace":
			t.Errorf("%+v, want no such step", r)
		}
	}
}
