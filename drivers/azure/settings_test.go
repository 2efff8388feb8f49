package azure

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/berthhq/berth/drivers/inspect"
)

// settingsOf returns the settings of cfg's container, and checks those that never
// change.
func settingsOf(t *testing.T, cfg Config) inspect.Settings {
	t.Helper()
	s, err := Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Inspect() = %v", err)
	}
	if !errors.Is(s.Lifecycle.Err, errors.ErrUnsupported) || !strings.Contains(s.Lifecycle.Err.Error(), "management-policy") {
		t.Errorf("Lifecycle = %+v, want %v with management-policy in it", s.Lifecycle, errors.ErrUnsupported)
	}
	if s.PartsKept != 7*24*time.Hour || s.PartsAreObjects {
		t.Errorf("PartsKept = %v, PartsAreObjects = %v, want a week, false", s.PartsKept, s.PartsAreObjects)
	}
	return s
}

// testInspect reads the settings with an account key and with a SAS.
func testInspect(t *testing.T, cfg Config) {
	s := settingsOf(t, cfg)
	if s.SoftDelete.Err != nil || s.SoftDelete.Value != 0 || s.Versioning.Err != nil || s.Versioning.Value {
		t.Errorf("Inspect() = %+v, want neither soft delete nor versions", s)
	}
	b, err := newBucket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.service.SetProperties(t.Context(), &service.SetPropertiesOptions{
		DeleteRetentionPolicy: &service.RetentionPolicy{Enabled: new(true), Days: new(int32(14))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := settingsOf(t, cfg).SoftDelete; s.Err != nil || s.Value != 14*24*time.Hour {
		t.Errorf("SoftDelete = %+v, want 14 days", s)
	}
	for o, err := range b.List(t.Context(), "", "", 0) {
		t.Errorf("Inspect left %s, %v", o.Key, err)
	}

	cfg.SAS, cfg.SharedKey = containerSAS(t, cfg), ""
	s = settingsOf(t, cfg)
	if s.SoftDelete.Err == nil || !strings.Contains(s.SoftDelete.Permission, "account SAS") {
		t.Errorf("SoftDelete with a SAS of the container = %+v, want an error and \"account SAS\"", s.SoftDelete)
	}
	if s.Versioning.Err != nil {
		t.Errorf("Versioning with a SAS of the container = %+v, want no error", s.Versioning)
	}
}

// testInspectVersions adds the header that blobs have if versioning is on.
// Azurite has no versions.
func testInspectVersions(t *testing.T, cfg Config) {
	cfg, server := bySAS(t, cfg)
	cfg.Transport = wire(func(req *http.Request) (*http.Response, error) {
		resp, err := server.RoundTrip(req)
		if err == nil && req.Method == http.MethodHead {
			resp.Header.Set("x-ms-version-id", "2026-01-02T03:04:05.6789012Z")
		}
		return resp, err
	})
	if s := settingsOf(t, cfg).Versioning; s.Err != nil || !s.Value {
		t.Errorf("Versioning = %+v, want true", s)
	}
}
