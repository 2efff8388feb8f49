package system

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestStoreRefusesDuringService tests stores that accept berth's requests when it
// starts, and later refuse its credentials or its clock, deny access, or have lost
// the bucket. Clients get 503 with Retry-After, and berth continues without a restart
// once the store accepts requests again.
func TestStoreRefusesDuringService(t *testing.T) {
	t.Parallel()
	asXML := func(status int, code string, header http.Header) refusal {
		if header == nil {
			header = make(http.Header)
		}
		header.Set("X-Ms-Error-Code", code)
		return refusal{status, header, "application/xml", "<Error><Code>" + code + "</Code><Message>no</Message></Error>"}
	}
	asJSON := func(status int, message string) refusal {
		return refusal{status, nil, "application/json", fmt.Sprintf(`{"error":{"code":%d,"message":%q}}`, status, message)}
	}
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		s := emulator.VersityGW(t)
		// The SDK sets its clock by the store's, and needs a retry to set it back.
		testRefusals(t, s.Endpoint, s3Env(t, s), "BERTH_STORAGE_S3_ENDPOINT", s3Part,
			asXML(http.StatusBadRequest, "ExpiredToken", nil), asXML(http.StatusForbidden, "AccessDenied", nil),
			asXML(http.StatusForbidden, "RequestTimeTooSkewed", longAgo()), asXML(http.StatusNotFound, "NoSuchBucket", nil))
	})
	t.Run("GCS", func(t *testing.T) {
		t.Parallel()
		s := emulator.FakeGCS(t)
		testRefusals(t, s.Endpoint, gcsEnv(t, s), "BERTH_STORAGE_GCS_ENDPOINT", leastPart,
			asJSON(http.StatusUnauthorized, "Invalid Credentials"), asJSON(http.StatusForbidden, "no storage.objects.create access"),
			asJSON(http.StatusNotFound, "The specified bucket does not exist."))
	})
	t.Run("Azure", func(t *testing.T) {
		t.Parallel()
		s := emulator.Azurite(t)
		testRefusals(t, s.Endpoint, azureEnv(t, s), "BERTH_STORAGE_AZURE_ENDPOINT", leastPart,
			asXML(http.StatusForbidden, "AuthenticationFailed", longAgo()), asXML(http.StatusForbidden, "AuthorizationPermissionMismatch", nil),
			asXML(http.StatusNotFound, "ContainerNotFound", nil))
	})
}

// testRefusals runs berth behind a proxy to the store that gives each of these
// responses for a while.
func testRefusals(t *testing.T, endpoint string, env []string, setting string, part int, refusals ...refusal) {
	proxy, path := proxyTo(t, endpoint, nil)
	var current atomic.Pointer[refusal]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refusal := current.Load(); refusal != nil {
			refusal.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	p := servingDirectly(t, append(env, setting+"="+front.URL+path), part)
	for turn, refusal := range refusals {
		t.Log(refusal.status, refusal.body)
		testUnavailable(t, p, part, turn, func() { current.Store(&refusal) }, func() { current.Store(nil) })
	}
}
