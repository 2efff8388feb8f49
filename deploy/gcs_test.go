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

// gcsPermissions are those that a request takes. To overwrite an object takes
// the permission to delete it.
// https://cloud.google.com/storage/docs/access-control/iam-json
// https://cloud.google.com/storage/docs/access-control/iam-xml
func gcsPermissions(r *http.Request) (names []string, ok bool) {
	const create, read, remove, list = "storage.objects.create", "storage.objects.get", "storage.objects.delete", "storage.objects.list"
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
	switch method := r.Method; {
	case r.URL.Path == "/token":
		return nil, true
	case !isJSON && method == http.MethodGet: // of the XML API
		return []string{read}, true
	case !isJSON:
		return nil, false
	case !inBucket && method == http.MethodGet:
		return []string{"storage.buckets.get"}, true
	case rest == "storageLayout" && method == http.MethodGet:
		return []string{list}, true
	case upload && rest == "o" && method == http.MethodPost:
		names = []string{create}
	case rest == "o" && method == http.MethodGet:
		return []string{list}, true
	case isObject && strings.HasSuffix(object, "/compose") && method == http.MethodPost:
		names = []string{create, read}
		if body := peek(r); strings.Contains(body, `"deleteSourceObjects":true`) {
			names = append(names, remove)
		}
	case isObject && method == http.MethodGet:
		return []string{read}, true
	case isObject && method == http.MethodDelete:
		return []string{remove}, true
	default:
		return nil, false
	}
	if q.Get("ifGenerationMatch") != "0" {
		names = append(names, remove)
	}
	return names, true
}

// peek is the body, which the request keeps.
func peek(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return string(body)
}

// TestGCS records what the driver asks of a strict server, and of IAM where
// another account signs.
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
	proven(t, b, "gcs")
	exercise(t, b)
	r.grants(t, role.IncludedPermissions...)

	r.forget()
	if _, err := gcs.Inspect(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.grants(t, append(checkRole.IncludedPermissions, "storage.objects.list")...) // which the other role grants

	// One that signs by IAM is not the emulator's to verify.
	r = &recorder{permissions: gcsPermissions, base: iam{ownTransport()}}
	cfg.Transport, cfg.SignAs = r, "signer@test.iam.gserviceaccount.com"
	b = openGCS(t, cfg)
	exercise(t, b)
	r.grants(t, slices.Concat(role.IncludedPermissions, signRole.IncludedPermissions)...)
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
