package deploy_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// azureService is the prefix of the blob service's permissions.
const azureService = "Microsoft.Storage/storageAccounts/blobServices/"

// azurePermissions returns the permissions that a request needs. An emulator may
// have the account in the path, where it is not part of a container's name.
// https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory#permissions-for-blob-service-operations
func azurePermissions(account string) permissionsOf {
	return func(r *http.Request) (names []string, ok bool) {
		for _, header := range []string{"x-ms-tags", "x-ms-if-tags", "x-ms-copy-source", "x-ms-lease-id", "x-ms-immutability-policy-until-date"} {
			if r.Header.Get(header) != "" {
				return nil, false
			}
		}
		q := r.URL.Query()
		if q.Has("versionid") || q.Has("snapshot") {
			return nil, false
		}
		path := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/"+account), "/")
		container, blob, _ := strings.Cut(path, "/")
		operation := r.Method + " " + q.Get("comp")
		switch {
		case container == "":
			return ofAzureAccount(operation)
		case blob == "":
			return ofAzureContainer(operation, r)
		default:
			return ofAzureBlob(operation)
		}
	}
}

func ofAzureAccount(operation string) (names []string, ok bool) {
	switch operation {
	case "POST userdelegationkey":
		return []string{azureService + "generateUserDelegationKey/action"}, true
	case "GET properties":
		return []string{azureService + "read"}, true
	}
	return nil, false
}

func ofAzureContainer(operation string, r *http.Request) (names []string, ok bool) {
	switch operation {
	case "GET list":
		return []string{azureService + "containers/blobs/read"}, true
	case "POST batch":
		// The batch is a write, and each request in it needs its own permission.
		// https://learn.microsoft.com/rest/api/storageservices/blob-batch#authorization
		for line := range strings.Lines(peek(r)) {
			if strings.HasSuffix(strings.TrimSpace(line), " HTTP/1.1") && !strings.HasPrefix(line, http.MethodDelete+" ") {
				return nil, false
			}
		}
		return []string{azureService + "containers/blobs/write", azureService + "containers/blobs/delete"}, true
	}
	return nil, false
}

func ofAzureBlob(operation string) (names []string, ok bool) {
	switch operation {
	case "GET ", "HEAD ":
		return []string{azureService + "containers/blobs/read"}, true
	case "PUT ", "PUT block", "PUT blocklist":
		return []string{azureService + "containers/blobs/write"}, true
	case "DELETE ":
		return []string{azureService + "containers/blobs/delete"}, true
	}
	return nil, false
}

// azureRole is a file for `az role definition create`.
type azureRole struct {
	Name, Description   string
	IsCustom            bool
	Actions, NotActions []string
	DataActions         []string
	NotDataActions      []string
	AssignableScopes    []string
}

func (r azureRole) granted() []string { return slices.Concat(r.Actions, r.DataActions) }

// TestAzure checks the roles against the driver's requests with an account key,
// and with an identity, which needs another permission to sign URLs.
func TestAzure(t *testing.T) {
	var role, checkRole, signRole azureRole
	read(t, "azure/role.json", &role)
	read(t, "azure/role-check.json", &checkRole)
	read(t, "azure/role-sign.json", &signRole)

	server := emulator.Azurite(t)
	r := &recorder{permissions: azurePermissions(server.Account), base: server.Transport}
	b, err := azure.Open(t.Context(), azure.Config{
		Account: server.Account, SharedKey: server.SharedKey, Endpoint: server.Endpoint, Container: server.Container(t), Transport: r,
	})
	if err != nil {
		t.Fatal(err)
	}
	runCheck(t, b, "azure")
	callAll(t, b)
	r.wantUsed(t, role.granted()...)

	server = emulator.AzuriteOAuth(t)
	setManagedIdentity(t)
	r = &recorder{permissions: azurePermissions(server.Account), base: server.Transport}
	cfg := azure.Config{Account: server.Account, Endpoint: server.Endpoint, Container: server.Container(t), Transport: r}
	if b, err = azure.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	callAll(t, b)
	r.wantUsed(t, slices.Concat(role.granted(), signRole.granted())...)
	if _, err := azure.Inspect(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.wantUsed(t, slices.Concat(role.granted(), signRole.granted(), checkRole.granted())...)
}

// setManagedIdentity gives the process a managed identity, as App Service does.
// https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
func setManagedIdentity(t *testing.T) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		claims := map[string]any{
			"aud": "https://storage.azure.com", "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000001/",
			"oid": "00000000-0000-0000-0000-000000000002", "tid": "00000000-0000-0000-0000-000000000001",
			"iat": now.Unix() - 60, "nbf": now.Unix() - 60, "exp": now.Unix() + 3600,
		}
		encode := func(v any) string {
			data, _ := json.Marshal(v) // never fails for strings and numbers
			return base64.RawURLEncoding.EncodeToString(data)
		}
		token := encode(map[string]string{"alg": "RS256", "typ": "JWT"}) + "." + encode(claims) + "." + encode("signature")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":%q,"token_type":"Bearer"}`, token, now.Unix()+3600, r.FormValue("resource"))
	}))
	t.Cleanup(server.Close)
	t.Setenv("IDENTITY_ENDPOINT", server.URL)
	t.Setenv("IDENTITY_HEADER", "secret")
}
