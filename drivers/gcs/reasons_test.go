package gcs

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// jsonError returns an error of the JSON API.
func jsonError(status int, reason, message string) map[string]any {
	return map[string]any{"error": map[string]any{
		"code": status, "message": message,
		"errors": []any{map[string]any{"domain": "global", "reason": reason, "message": message}},
	}}
}

// infoError returns an error with an ErrorInfo.
func infoError(status int, reason, service string) map[string]any {
	return map[string]any{"error": map[string]any{
		"code": status, "message": "Request had a problem.", "status": "PERMISSION_DENIED",
		"details": []any{
			map[string]any{"@type": "type.googleapis.com/google.rpc.Help"},
			map[string]any{
				"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com",
				"metadata": map[string]any{"service": service, "consumer": "projects/123"},
			},
		},
	}}
}

// TestReasons checks that the error of a refusal names the field that its reason is
// about, and makes no claim about a key.
func TestReasons(t *testing.T) {
	const kms = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	for _, c := range []struct {
		status int
		body   any
		want   error
		text   string
	}{
		{403, jsonError(403, "retentionPolicyNotMet", "Object is subject to bucket's retention policy"), drivers.ErrRefused, `bucket "b" has a retention policy`},
		{403, jsonError(403, "objectUnderActiveHold", "Object is under active Event-Based hold"), drivers.ErrRefused, "default event-based hold"},
		{400, jsonError(400, "required", "Bucket is requester pays bucket but no user project provided."), drivers.ErrRefused, "Requester Pays"},
		{400, jsonError(400, "userProjectMissing", "no"), drivers.ErrRefused, "Requester Pays"},
		{403, jsonError(403, "forbidden", "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been authorized to use this key."),
			drivers.ErrRefused, "gcs.Config.KMSKey: " + kms + " can't be used: grant roles/cloudkms.cryptoKeyEncrypterDecrypter"},
		{400, jsonError(400, "cloudKmsDisabledKey", "no"), drivers.ErrRefused, kms + " is disabled"},
		{400, jsonError(400, "cloudKmsKeyLocationNotAllowed", "no"), drivers.ErrRefused, "another location"},
		{403, jsonError(403, "cloudKmsEncryptionKeyNotFound", "no"), drivers.ErrRefused, kms + " does not exist"},
		{412, jsonError(412, "orgPolicyConstraintFailed", "constraints/gcp.restrictNonCmekServices"), drivers.ErrRefused, "a policy of the organization"},
		{403, infoError(403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "storage.googleapis.com"), drivers.ErrRefused, "access scope cloud-platform"},
		{403, jsonError(403, "forbidden", "Provided scope(s) are not authorized"), drivers.ErrRefused, "access scope cloud-platform"},
		{403, infoError(403, "SERVICE_DISABLED", "storage.googleapis.com"), drivers.ErrRefused, "gcloud services enable storage.googleapis.com --project 123"},
		{403, jsonError(403, "accountDisabled", "no"), drivers.ErrRefused, "billing"},
		{403, jsonError(403, "rateLimitExceeded", "no"), drivers.ErrBusy, ""},
		{403, jsonError(403, "forbidden", "denied"), drivers.ErrRefused, "grant roles/storage.objectUser"},
		{400, jsonError(400, "invalid", "no"), nil, ""},
	} {
		reason, err := json.Marshal(c.body)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			b := openUnprobed(t, Config{Bucket: "b", Endpoint: "http://gcs.example", KMSKey: kms, Transport: transport(func(r *http.Request) (*http.Response, error) {
				if r.Body != nil {
					readAll(r)
				}
				return answer(r, c.status, c.body)
			})})
			_, created := b.Create(t.Context(), "k", drivers.NewBody([]byte("x")))
			_, stat := b.Stat(t.Context(), "k")
			_, completed := complete(t, b, testParts(2))
			for what, err := range map[string]error{"Create": created, "Stat": stat, "Complete": completed, "DeleteIf": b.DeleteIf(t.Context(), "k", "1")} {
				wantReason(t, what+": "+string(reason), err, c.want, c.text)
			}
		})
	}
}

// wantReason fails the test unless err wraps want, contains the text, and makes no
// claim about a key.
func wantReason(t *testing.T, what string, err, want error, text string) {
	t.Helper()
	if err == nil || want != nil && !errors.Is(err, want) || want == nil && errors.Is(err, drivers.ErrRefused) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s = %v, want %v with %q", what, err, want, text)
	}
	if s := sentinel(err); s != nil && s != want { //nolint:errorlint // sentinels themselves
		t.Errorf("%s = %v, which claims %q", what, err, s)
	}
}

// TestReasonsOfReads has errors of the XML API, by which objects are read.
func TestReasonsOfReads(t *testing.T) {
	for code, text := range map[string]string{"UserProjectMissing": "Requester Pays", "CloudKmsDisabledKey": "is disabled"} {
		b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: transport(func(r *http.Request) (*http.Response, error) {
			resp, err := answer(r, http.StatusBadRequest, nil)
			if err == nil {
				resp.Body = io.NopCloser(strings.NewReader("<?xml version='1.0' encoding='UTF-8'?><Error><Code>" + code + "</Code><Message>no</Message></Error>"))
			}
			return resp, err
		})})
		_, _, err := b.Open(t.Context(), "k", 0, -1)
		wantReason(t, "Open: "+code, err, drivers.ErrRefused, text)
	}
}

// TestOpenUnderRetention has a bucket with a retention policy, under which the probe
// can't delete its objects. No role changes that.
func TestOpenUnderRetention(t *testing.T) {
	server := emulator.FakeGCS(t)
	cfg := Config{Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile}
	wire := newTransport()
	cfg.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodDelete && r.URL.Query().Get("ifGenerationMatch") == "" {
			return answer(r, http.StatusForbidden, jsonError(http.StatusForbidden, "retentionPolicyNotMet", "no"))
		}
		return wire.RoundTrip(r)
	})
	b, err := Open(t.Context(), cfg)
	if err == nil {
		b.Close()
		t.Fatal("Open = nil, want an error")
	}
	if text := err.Error(); !strings.Contains(text, "retention policy") || strings.Contains(text, "objectUser") {
		t.Errorf("Open = %v, want \"retention policy\" and no role in it", err)
	}
}
