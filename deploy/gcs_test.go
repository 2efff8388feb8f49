package deploy_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/gcs"
)

// gcsPermissions returns the permissions that a request needs. A request that
// may replace an object needs the permission to delete it.
// https://cloud.google.com/storage/docs/access-control/iam-json
// https://cloud.google.com/storage/docs/access-control/iam-xml
func gcsPermissions(r *http.Request) (names []string, ok bool) {
	if strings.HasPrefix(r.URL.Host, "iamcredentials.") && strings.HasSuffix(r.URL.Path, ":signBlob") {
		return []string{"iam.serviceAccounts.signBlob"}, true
	}
	q := r.URL.Query()
	if q.Has("predefinedAcl") || q.Has("destinationPredefinedAcl") {
		return nil, false
	}
	rest, upload := strings.CutPrefix(r.URL.Path, "/upload")
	rest, isJSON := strings.CutPrefix(rest, "/storage/v1/b/")
	_, rest, inBucket := strings.Cut(rest, "/")
	object, isObject := strings.CutPrefix(rest, "o/")
	switch {
	case r.URL.Path == "/token":
		return nil, true
	case !isJSON: // the XML API, by which the SDK reads
		return []string{"storage.objects.get"}, r.Method == http.MethodGet
	case isObject:
		return ofGCSObject(r, object)
	case upload && rest == "o" && r.Method == http.MethodPost:
		return orReplaces(r, "storage.objects.create"), true
	case inBucket:
		ok := r.Method == http.MethodGet && (rest == "o" || rest == "storageLayout")
		return []string{"storage.objects.list"}, ok
	default:
		return []string{"storage.buckets.get"}, r.Method == http.MethodGet
	}
}

// ofGCSObject returns the permissions that a request to an object needs.
func ofGCSObject(r *http.Request, object string) (names []string, ok bool) {
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(object, "/compose"):
		names = []string{"storage.objects.create", "storage.objects.get"}
		if strings.Contains(peek(r), `"deleteSourceObjects":true`) {
			names = append(names, "storage.objects.delete")
		}
		return orReplaces(r, names...), true
	case r.Method == http.MethodGet:
		return []string{"storage.objects.get"}, true
	case r.Method == http.MethodDelete:
		return []string{"storage.objects.delete"}, true
	}
	return nil, false
}

// orReplaces adds the permission to delete, unless the request only creates.
func orReplaces(r *http.Request, names ...string) []string {
	if r.URL.Query().Get("ifGenerationMatch") != "0" {
		names = append(names, "storage.objects.delete")
	}
	return names
}

// peek returns the body of a request that is sent later.
func peek(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return string(body)
}

// TestGCS checks the roles against the driver's requests to the store, and to IAM
// if another account signs.
func TestGCS(t *testing.T) {
	t.Parallel()
	server := emulator.FakeGCS(t)
	cfg := gcs.Config{Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile}

	var role, checkRole, signRole struct {
		Title, Description, Stage string
		IncludedPermissions       []string
	}
	read(t, "gcs/role.yaml", &role)
	read(t, "gcs/role-check.yaml", &checkRole)
	read(t, "gcs/role-sign.yaml", &signRole)

	r := &recorder{permissions: gcsPermissions, base: ownTransport()}
	cfg.Transport = r
	b := openGCS(t, cfg)
	runCheck(t, b, "gcs")
	callAll(t, b)
	r.wantUsed(t, role.IncludedPermissions...)

	r.reset()
	if _, err := gcs.Inspect(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.wantUsed(t, append(checkRole.IncludedPermissions, "storage.objects.list")...) // granted by the other role

	// The emulator cannot verify URLs that IAM signs, so "berth check" is not run.
	r = &recorder{permissions: gcsPermissions, base: iam{ownTransport()}}
	cfg.Transport, cfg.SignAs = r, "signer@test.iam.gserviceaccount.com"
	b = openGCS(t, cfg)
	callAll(t, b)
	r.wantUsed(t, slices.Concat(role.IncludedPermissions, signRole.IncludedPermissions)...)
}

func openGCS(t *testing.T, cfg gcs.Config) drivers.Bucket {
	t.Helper()
	b, err := gcs.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // frees connections only
	return b
}

// iam answers requests for signatures, and forwards all others to the store.
type iam struct{ http.RoundTripper }

func (i iam) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.Host, "iamcredentials.") {
		return i.RoundTripper.RoundTrip(r)
	}
	answer := fmt.Sprintf(`{"signedBlob":%q}`, base64.StdEncoding.EncodeToString([]byte("signature")))
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)),
	}, nil
}
