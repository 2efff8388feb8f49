package system

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestStoreRefusesInService has stores that are well when berth starts, and then
// do not take its credentials or its clock, deny it access, or have lost their
// bucket. Clients get 503 with Retry-After, and berth continues without a restart
// when the store is fixed.
func TestStoreRefusesInService(t *testing.T) {
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
		// By the clock of a store the SDK sets its own, and needs a retry to set it back.
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

// testRefusals runs berth on a way to the store on which refusals come.
func testRefusals(t *testing.T, endpoint string, env []string, setting string, part int, refusals ...refusal) {
	through, path := wayTo(t, endpoint, nil)
	var refused atomic.Pointer[refusal]
	way := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if no := refused.Load(); no != nil {
			no.ServeHTTP(w, r)
			return
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(way.Close)
	p := servingDirectly(t, append(env, setting+"="+way.URL+path), part)
	for turn, no := range refusals {
		t.Log(no.status, no.body)
		testUnavailable(t, p, part, turn, func() { refused.Store(&no) }, func() { refused.Store(nil) })
	}
}
