package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/inspect"
)

const day = 24 * time.Hour

// settingsOf returns the settings of a bucket.
func settingsOf(t *testing.T, cfg Config) inspect.Settings {
	t.Helper()
	settings, err := Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Inspect() = %v", err)
	}
	return settings
}

// wantSettings fails the test unless the bucket has these settings. An Err is
// compared by errors.Is.
func wantSettings(t *testing.T, cfg Config, want inspect.Settings) {
	t.Helper()
	if diff := cmp.Diff(want, settingsOf(t, cfg), cmpopts.EquateErrors(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Inspect() has other settings (-want +got):\n%s", diff)
	}
}

// noSettings returns the settings of a new bucket in a store that supports all
// of them.
func noSettings() inspect.Settings {
	var s inspect.Settings
	s.Lifecycle.Permission = "s3:GetLifecycleConfiguration"
	s.Versioning.Permission = "s3:GetBucketVersioning"
	s.SoftDelete.Err = errors.ErrUnsupported
	s.Tiering.Permission = "s3:GetIntelligentTieringConfiguration"
	s.Lock.Permission = "s3:GetBucketObjectLockConfiguration"
	s.Payment.Permission = "s3:GetBucketRequestPayment"
	return s
}

// TestInspectMinIO reads the settings of MinIO, which does not support all of
// them.
func TestInspectMinIO(t *testing.T) {
	t.Parallel()
	cfg := newBucketOf(t, emulator.MinIO(t))
	cfg.Prefix = "team"
	want := noSettings()
	want.Tiering.Err = errors.ErrUnsupported
	wantSettings(t, cfg, want)

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
	want.Versioning.Value = true
	want.Lifecycle.Value = []inspect.Rule{
		{ID: "old", Action: inspect.RuleExpire, Prefix: "data/", Age: 30 * day},
		{ID: "versions", Action: inspect.RuleDropVersions, Age: 7 * day},
	}
	wantSettings(t, cfg, want)
}

// TestInspectVersityGW reads the settings of versitygw, which does not support
// all of them.
func TestInspectVersityGW(t *testing.T) {
	t.Parallel()
	settings := settingsOf(t, newBucketOf(t, emulator.VersityGW(t)))
	if s := settings.Lifecycle; !errors.Is(s.Err, errors.ErrUnsupported) {
		t.Errorf("Lifecycle = %+v, want %v", s, errors.ErrUnsupported)
	}
	if s := settings.Versioning; s.Err != nil || s.Value {
		t.Errorf("Versioning = %+v, want false", s)
	}
}

// amazonSettings answers for a bucket with settings in the forms that Amazon S3
// documents. No server here returns all of them.
func amazonSettings() interceptor {
	rule := func(id, body string) string {
		return "<Rule><ID>" + id + "</ID><Status>Enabled</Status>" + body + "</Rule>"
	}
	const abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>9</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
	return answersSettings(map[string]string{"lifecycle": rule("abort", "<Filter><Prefix></Prefix></Filter>"+abort) +
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
	})
}

// TestInspectAmazon reads settings in the forms that Amazon S3 documents.
func TestInspectAmazon(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	cfg.Prefix = "team"
	proxy.intercept(amazonSettings())
	want := noSettings()
	want.Lifecycle.Value = []inspect.Rule{
		{ID: "abort", Action: inspect.RuleAbortUploads, Age: 9 * day},
		{ID: "old form", Action: inspect.RuleAbortUploads, Prefix: "data/", Age: 9 * day},
		{ID: "big", Action: inspect.RuleExpire, Prefix: "data/new/", Narrowed: true},
		{ID: "archive", Action: inspect.RuleDropVersions, Age: 7 * day, Narrowed: true},
		{ID: "archive", Action: inspect.RuleArchive, Age: 90 * day, Class: "DEEP_ARCHIVE"},
	}
	want.Suspended = true
	want.Tiering.Value = []inspect.Rule{
		{ID: "all", Action: inspect.RuleArchive, Age: 90 * day, Class: "ARCHIVE_ACCESS"},
		{ID: "all", Action: inspect.RuleArchive, Age: 180 * day, Class: "DEEP_ARCHIVE_ACCESS"},
		{ID: "data", Action: inspect.RuleArchive, Prefix: "data/", Age: 90 * day, Class: "ARCHIVE_ACCESS"},
		{ID: "data", Action: inspect.RuleArchive, Prefix: "data/", Age: 180 * day, Class: "DEEP_ARCHIVE_ACCESS"},
	}
	want.Lock.Value = inspect.Lock{Enabled: true, Retention: 30 * day}
	want.Payment.Value = true
	wantSettings(t, cfg, want)

	// Object Lock requires checksums, which these writes do not have. With a
	// RequestPayer, Payment is not read.
	cfg.Checksum, cfg.RequestPayer = "none", "requester"
	want.Lock.Value.Unchecked = true
	want.Payment = inspect.Setting[bool]{}
	wantSettings(t, cfg, want)
}

// TestInspectRefused reads settings that the store refuses to return.
func TestInspectRefused(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	proxy.intercept(refuseAll("", http.StatusNotFound, "ObjectLockConfigurationNotFoundError"))
	if s := settingsOf(t, cfg).Lock; s.Err != nil || s.Value.Enabled {
		t.Errorf("Lock of a bucket without Object Lock = %+v, want none", s)
	}

	proxy.intercept(refuseAll("", http.StatusForbidden, "AccessDenied"))
	want := noSettings()
	for _, err := range []*error{&want.Lifecycle.Err, &want.Versioning.Err, &want.Tiering.Err, &want.Lock.Err, &want.Payment.Err} {
		*err = cmpopts.AnyError
	}
	wantSettings(t, cfg, want)
	denied := settingsOf(t, cfg)
	for _, err := range []error{denied.Lifecycle.Err, denied.Versioning.Err, denied.Tiering.Err, denied.Lock.Err, denied.Payment.Err} {
		wantText(t, err, "access is denied", "a setting that may not be read")
		if errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a setting that may not be read = %v, want an error that does not wrap %v", err, errors.ErrUnsupported)
		}
	}

	proxy.intercept(refuseAll("", http.StatusBadRequest, "ExpiredToken"))
	err := settingsOf(t, cfg).Lifecycle.Err
	wantRefused(t, err, "Lifecycle with expired credentials")
	wantText(t, err, "s3.Config.SessionToken", "Lifecycle with expired credentials")
}

// tiers returns a configuration of S3 Intelligent-Tiering with both archive
// tiers.
func tiers(id, status, filter string) string {
	return "<IntelligentTieringConfiguration><Id>" + id + "</Id><Filter>" + filter + "</Filter><Status>" + status + "</Status>" +
		"<Tiering><AccessTier>ARCHIVE_ACCESS</AccessTier><Days>90</Days></Tiering>" +
		"<Tiering><AccessTier>DEEP_ARCHIVE_ACCESS</AccessTier><Days>180</Days></Tiering></IntelligentTieringConfiguration>"
}

// answersSettings answers for a bucket with these settings, by the name of their
// query parameter.
func answersSettings(settings map[string]string) interceptor {
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
