package azure

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// testVersionRefused has an endpoint that doesn't support the SDK's version. The
// error names the field to set, and with an older version all calls work.
func testVersionRefused(t *testing.T, cfg Config) {
	rules := emulator.AzureRules{Base: cfg.Transport, Newest: "2025-11-05"}
	cfg.Transport = rules
	_, err := Open(t.Context(), cfg)
	for _, want := range []string{"azure.Config.Endpoint", "doesn't support service version " + string(newestVersion()), "azure.Config.APIVersion"} {
		wantError(t, "Open", err, drivers.ErrRefused, want)
	}

	cfg.APIVersion = "2025-11-05"
	b := open(t, cfg)
	keys := []string{"data/a", "data/b", "data/c", "data/d"}
	for _, key := range keys {
		if _, err := b.Create(t.Context(), key, drivers.NewBody([]byte("text"))); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for o, err := range b.List(t.Context(), "data/", "data/b", 0) { // this version has no lists that start at a name
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, o.Key)
	}
	if want := keys[2:]; !slices.Equal(got, want) {
		t.Errorf("List after data/b = %q, want %q", got, want)
	}
	signed, err := b.SignGet(t.Context(), "data/a", drivers.SignOptions{Expires: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rules}).Get(signed.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET of a URL of an older version = %s, want 200", resp.Status)
	}
	if err := b.Delete(t.Context(), keys...); err != nil { // in a batch
		t.Error(err)
	}
}

// TestVersionOfIdentity signs with an identity and an older version, in which other
// data is signed. The SDK supports the newest form only.
func TestVersionOfIdentity(t *testing.T) {
	b, err := newBucket(Config{Account: "account", Container: "c", APIVersion: "2026-02-06", identity: token{}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
	wantError(t, "SignGet", err, errors.ErrUnsupported, "azure.Config.APIVersion")
}

// TestVersionStartFrom checks that a list starts at a name if the version
// allows it.
func TestVersionStartFrom(t *testing.T) {
	for version, want := range map[string]bool{"": true, "2026-02-06": true, "2025-11-05": false} {
		cfg := fakeConfig(func(req *http.Request) (*http.Response, error) {
			if got := req.URL.Query().Has("startFrom"); got != want {
				t.Errorf("version %q: startFrom in the request = %v, want %v", version, got, want)
			}
			return answer(req, http.StatusForbidden, "AuthorizationFailure", nil), nil
		})
		cfg.APIVersion = version
		b, err := newBucket(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range b.List(t.Context(), "data/", "data/b", 0) {
			wantError(t, "List", err, drivers.ErrRefused, "")
		}
	}
}

// TestVersionCheck checks that invalid versions are refused.
func TestVersionCheck(t *testing.T) {
	for _, bad := range []string{"2020-10-02", "2099-01-01", "newest", "2025-13-01", "2025-1-1"} {
		_, err := newBucket(Config{Account: "account", Container: "c", SharedKey: "AAAA", APIVersion: bad})
		if err == nil || !strings.Contains(err.Error(), "azure.Config.APIVersion") {
			t.Errorf("newBucket with version %q = %v, want azure.Config.APIVersion in it", bad, err)
		}
	}
}

// TestBadHeader checks that the error names the header that the service refuses.
func TestBadHeader(t *testing.T) {
	for body, want := range map[string]string{
		"<Error><HeaderName>x-ms-access-tier</HeaderName><HeaderValue>Cold</HeaderValue></Error>": "azure.Config.AccessTier",
		"<Error><HeaderName>x-ms-other</HeaderName></Error>":                                      "the header x-ms-other",
		"": "azure.Config.APIVersion",
	} {
		b := fake(t, func(req *http.Request) (*http.Response, error) {
			resp := answer(req, http.StatusBadRequest, "InvalidHeaderValue", http.Header{"Content-Type": {"application/xml"}})
			resp.Body = http.NoBody
			if body != "" {
				resp.Body = readCloser{strings.NewReader(body)}
			}
			return resp, nil
		})
		_, err := b.Create(t.Context(), "k", drivers.NewBody([]byte("x")))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Create = %v, want %q in it", err, want)
		}
	}
}

// readCloser is a reader as a body.
type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }
