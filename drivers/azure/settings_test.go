package azure

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/inspect"
)

func settingsOf(t *testing.T, cfg Config) inspect.Settings {
	t.Helper()
	s, err := Inspect(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Inspect() = %v", err)
	}
	if !errors.Is(s.Lifecycle.Err, errors.ErrUnsupported) || !strings.Contains(s.Lifecycle.Err.Error(), "management-policy") {
		t.Errorf("lifecycle: %+v, want it unsupported, and where to look", s.Lifecycle)
	}
	if s.PartsKept != 7*24*time.Hour || s.PartsAreObjects {
		t.Errorf("parts are kept %v as objects: %v, want a week, and not as objects", s.PartsKept, s.PartsAreObjects)
	}
	return s
}

// TestInspect reads the settings of Azurite with each credential.
func TestInspect(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, emulator.Azurite(t))
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
		t.Errorf("soft delete: %+v, want 14 days", s)
	}
	for o, err := range b.List(t.Context(), "", "") {
		t.Errorf("left behind: %v, %v", o.Key, err)
	}

	cfg.SAS, cfg.SharedKey = containerSAS(t, cfg), ""
	s = settingsOf(t, cfg)
	if s.SoftDelete.Err == nil || !strings.Contains(s.SoftDelete.Permission, "account SAS") {
		t.Errorf("soft delete, by a SAS of the container: %+v, want an error and what it takes", s.SoftDelete)
	}
	if s.Versioning.Err != nil {
		t.Errorf("versioning, by a SAS of the container: %+v", s.Versioning)
	}
}

// TestInspectVersions adds the header that blobs have if versioning is on.
// Azurite has no versions.
func TestInspectVersions(t *testing.T) {
	t.Parallel()
	cfg, server := onSAS(t)
	cfg.Transport = wire(func(req *http.Request) (*http.Response, error) {
		resp, err := server.RoundTrip(req)
		if err == nil && req.Method == http.MethodHead {
			resp.Header.Set("x-ms-version-id", "2026-01-02T03:04:05.6789012Z")
		}
		return resp, err
	})
	if s := settingsOf(t, cfg).Versioning; s.Err != nil || !s.Value {
		t.Errorf("versioning: %+v, want versions", s)
	}
}
