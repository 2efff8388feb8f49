package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/inspect"
)

const day = 24 * time.Hour

// TestInspect reads the settings of servers, some of which they do not support.
func TestInspect(t *testing.T) {
	t.Parallel()
	t.Run("MinIO", func(t *testing.T) {
		server := emulator.MinIO(t)
		cfg := newBucketOf(t, server)
		cfg.Prefix = "team"
		settings := settingsOf(t, cfg)
		if s := settings.Lifecycle; s.Err != nil || len(s.Value) != 0 {
			t.Errorf("without rules: %+v", s)
		}
		if s := settings.Versioning; s.Err != nil || s.Value || settings.Suspended {
			t.Errorf("without versions: %+v, suspended %t", s, settings.Suspended)
		}
		if s := settings.Tiering; !errors.Is(s.Err, errors.ErrUnsupported) {
			t.Errorf("archive tiers: %+v, want %v", s, errors.ErrUnsupported)
		}
		if s := settings.Lock; s.Err != nil || s.Value.Enabled {
			t.Errorf("without Object Lock: %+v", s)
		}
		b, _ := connectBucket(t, cfg)
		_, err := b.store.client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
			Bucket: b.store.bucket(), VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.store.client.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
			Bucket: b.store.bucket(), LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{
				{
					ID: aws.String("old"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("team/data/")},
					Expiration: &types.LifecycleExpiration{Days: aws.Int32(30)},
				},
				{
					ID: aws.String("versions"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")},
					NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(7)},
				},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		settings = settingsOf(t, cfg)
		want := []inspect.Rule{
			{ID: "old", Action: inspect.RuleExpire, Prefix: "data/", Age: 30 * day},
			{ID: "versions", Action: inspect.RuleDropVersions, Age: 7 * day},
		}
		if diff := cmp.Diff(want, settings.Lifecycle.Value); diff != "" || settings.Lifecycle.Err != nil {
			t.Errorf("rules, %v (-want +got):\n%s", settings.Lifecycle.Err, diff)
		}
		if s := settings.Versioning; s.Err != nil || !s.Value {
			t.Errorf("with versions: %+v", s)
		}
		if !errors.Is(settings.SoftDelete.Err, errors.ErrUnsupported) {
			t.Errorf("soft delete: %+v, want %v", settings.SoftDelete, errors.ErrUnsupported)
		}
	})
	t.Run("versitygw", func(t *testing.T) {
		server := emulator.VersityGW(t)
		settings := settingsOf(t, newBucketOf(t, server))
		if s := settings.Lifecycle; !errors.Is(s.Err, errors.ErrUnsupported) {
			t.Errorf("lifecycle: %+v, want %v", s, errors.ErrUnsupported)
		}
		if s := settings.Versioning; s.Err != nil || s.Value {
			t.Errorf("versioning: %+v, want none", s)
		}
	})
}

func settingsOf(t *testing.T, cfg Config) inspect.Settings {
	t.Helper()
	settings, err := Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Inspect() = %v", err)
	}
	return settings
}

// TestInspectAmazon has the answers that Amazon S3 documents. No server here
// returns all of them.
func TestInspectAmazon(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	cfg.Prefix = "team"
	rule := func(id, body string) string {
		return "<Rule><ID>" + id + "</ID><Status>Enabled</Status>" + body + "</Rule>"
	}
	const abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>9</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
	proxy.intercept(answersSettings(map[string]string{"lifecycle": rule("abort", "<Filter><Prefix></Prefix></Filter>"+abort) +
		rule("old form", "<Prefix>team/data/</Prefix>"+abort) +
		"<Rule><ID>off</ID><Status>Disabled</Status><Filter><Prefix></Prefix></Filter>" + abort + "</Rule>" +
		rule("another's", "<Filter><Prefix>other/</Prefix></Filter><Expiration><Days>1</Days></Expiration>") +
		rule("tagged", "<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><Expiration><Days>1</Days></Expiration>") +
		rule("tagged too", "<Filter><And><Prefix>team/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter><Expiration><Days>1</Days></Expiration>") +
		rule("markers", "<Filter><Prefix></Prefix></Filter><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>") +
		rule("big", "<Filter><And><Prefix>team/data/new/</Prefix><ObjectSizeGreaterThan>1048576</ObjectSizeGreaterThan></And></Filter>"+
			"<Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>") +
		rule("archive", "<Filter><Prefix>team/</Prefix></Filter>"+
			"<Transition><Days>30</Days><StorageClass>STANDARD_IA</StorageClass></Transition>"+
			"<Transition><Days>90</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>"+
			"<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays><NewerNoncurrentVersions>3</NewerNoncurrentVersions></NoncurrentVersionExpiration>"),
		"versioning": "<Status>Suspended</Status>",
		"intelligent-tiering": tiers("all", "Enabled", "") + tiers("off", "Disabled", "") +
			tiers("others", "Enabled", "<Prefix>other/</Prefix>") + tiers("tagged", "Enabled", "<Tag><Key>k</Key><Value>v</Value></Tag>") +
			tiers("data", "Enabled", "<Prefix>team/data/</Prefix>"),
		"object-lock":    "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention></Rule>",
		"requestPayment": "<Payer>Requester</Payer>",
	}))
	settings := settingsOf(t, cfg)
	want := []inspect.Rule{
		{ID: "abort", Action: inspect.RuleAbortUploads, Age: 9 * day},
		{ID: "old form", Action: inspect.RuleAbortUploads, Prefix: "data/", Age: 9 * day},
		{ID: "big", Action: inspect.RuleExpire, Prefix: "data/new/", Narrowed: true},
		{ID: "archive", Action: inspect.RuleDropVersions, Age: 7 * day, Narrowed: true},
		{ID: "archive", Action: inspect.RuleArchive, Age: 90 * day, Class: "DEEP_ARCHIVE"},
	}
	if diff := cmp.Diff(want, settings.Lifecycle.Value); diff != "" || settings.Lifecycle.Err != nil {
		t.Errorf("rules, %v (-want +got):\n%s", settings.Lifecycle.Err, diff)
	}
	if s := settings.Versioning; s.Err != nil || s.Value || !settings.Suspended {
		t.Errorf("suspended versions: %+v, suspended %t", s, settings.Suspended)
	}
	want = []inspect.Rule{
		{ID: "all", Action: inspect.RuleArchive, Age: 90 * day, Class: "ARCHIVE_ACCESS"},
		{ID: "all", Action: inspect.RuleArchive, Age: 180 * day, Class: "DEEP_ARCHIVE_ACCESS"},
		{ID: "data", Action: inspect.RuleArchive, Prefix: "data/", Age: 90 * day, Class: "ARCHIVE_ACCESS"},
		{ID: "data", Action: inspect.RuleArchive, Prefix: "data/", Age: 180 * day, Class: "DEEP_ARCHIVE_ACCESS"},
	}
	if diff := cmp.Diff(want, settings.Tiering.Value); diff != "" || settings.Tiering.Err != nil {
		t.Errorf("archive tiers, %v (-want +got):\n%s", settings.Tiering.Err, diff)
	}
	if s, want := settings.Lock, (inspect.Lock{Enabled: true, Retention: 30 * day}); s.Err != nil || s.Value != want {
		t.Errorf("Object Lock: %+v, want %+v", s, want)
	}
	if s := settings.Payment; s.Err != nil || !s.Value {
		t.Errorf("Requester Pays: %+v, want it", s)
	}
	unchecked := cfg
	unchecked.Checksum, unchecked.RequestPayer = "none", "requester"
	if s := settingsOf(t, unchecked); !s.Lock.Value.Unchecked || s.Payment != (inspect.Setting[bool]{}) {
		t.Errorf("without checksums, and with a payer: %+v, %+v, want an unchecked lock, and no question of the payer", s.Lock, s.Payment)
	}

	proxy.intercept(refuseAll("", http.StatusNotFound, "ObjectLockConfigurationNotFoundError"))
	if s := settingsOf(t, cfg).Lock; s.Err != nil || s.Value.Enabled {
		t.Errorf("without Object Lock: %+v", s)
	}

	proxy.intercept(refuseAll("", http.StatusForbidden, "AccessDenied"))
	settings = settingsOf(t, cfg)
	for permission, s := range map[string]struct {
		permission string
		err        error
	}{
		"s3:GetIntelligentTieringConfiguration": {settings.Tiering.Permission, settings.Tiering.Err},
		"s3:GetBucketObjectLockConfiguration":   {settings.Lock.Permission, settings.Lock.Err},
		"s3:GetBucketRequestPayment":            {settings.Payment.Permission, settings.Payment.Err},
	} {
		if s.permission != permission || s.err == nil || errors.Is(s.err, errors.ErrUnsupported) {
			t.Errorf("where access is denied: %+v, want an error and %s", s, permission)
		}
	}
	if s := settings.Lifecycle; s.Err == nil || s.Permission != "s3:GetLifecycleConfiguration" || errors.Is(s.Err, errors.ErrUnsupported) {
		t.Errorf("lifecycle where access is denied: %+v, want an error and the permission", s)
	}
	if s := settings.Versioning; s.Err == nil || s.Permission != "s3:GetBucketVersioning" || !strings.Contains(s.Err.Error(), "denied") {
		t.Errorf("versioning where access is denied: %+v, want an error about that and the permission", s)
	}

	proxy.intercept(refuseAll("", http.StatusBadRequest, "ExpiredToken"))
	if s := settingsOf(t, cfg).Lifecycle; s.Err == nil || errors.Is(s.Err, errors.ErrUnsupported) || !strings.Contains(s.Err.Error(), "s3.Config.SessionToken") {
		t.Errorf("lifecycle with expired credentials: %+v, want an error about that", s)
	}
}

// tiers returns a configuration of S3 Intelligent-Tiering with both archive
// tiers.
func tiers(id, status, filter string) string {
	return "<IntelligentTieringConfiguration><Id>" + id + "</Id><Filter>" + filter + "</Filter><Status>" + status + "</Status>" +
		"<Tiering><AccessTier>ARCHIVE_ACCESS</AccessTier><Days>90</Days></Tiering>" +
		"<Tiering><AccessTier>DEEP_ARCHIVE_ACCESS</AccessTier><Days>180</Days></Tiering></IntelligentTieringConfiguration>"
}

// answersSettings answers for a bucket with these settings, keyed by the name
// of the query parameter.
func answersSettings(settings map[string]string) func(http.ResponseWriter, *http.Request) bool {
	elements := map[string]string{
		"lifecycle": "LifecycleConfiguration", "versioning": "VersioningConfiguration", "requestPayment": "RequestPaymentConfiguration",
		"intelligent-tiering": "ListBucketIntelligentTieringConfigurationsResult", "object-lock": "ObjectLockConfiguration",
	}
	return func(w http.ResponseWriter, r *http.Request) bool {
		for name, body := range settings {
			if r.URL.Query().Has(name) {
				w.Header().Set("Content-Type", "application/xml")
				_, err := io.WriteString(w, fmt.Sprintf("<%[1]s xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">%[2]s</%[1]s>", elements[name], body))
				return err == nil
			}
		}
		return false
	}
}
