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

// azurePermissions returns the permissions that a request needs. The account,
// which an emulator may have in the path, is not a prefix of a container's name.
// https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory#permissions-for-blob-service-operations
func azurePermissions(account string) func(*http.Request) ([]string, bool) {
	const service = "Microsoft.Storage/storageAccounts/blobServices/"
	const read, write, remove = service + "containers/blobs/read", service + "containers/blobs/write", service + "containers/blobs/delete"
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
		comp := q.Get("comp")
		switch method := r.Method; {
		case container == "" && method == http.MethodPost && comp == "userdelegationkey":
			return []string{service + "generateUserDelegationKey/action"}, true
		case container == "" && method == http.MethodGet && comp == "properties":
			return []string{service + "read"}, true
		case blob == "" && method == http.MethodGet && comp == "list":
			return []string{read}, true
		case blob == "" && method == http.MethodPost && comp == "batch":
			// The batch is a write, and each of its requests is judged for itself.
			// https://learn.microsoft.com/rest/api/storageservices/blob-batch#authorization
			for line := range strings.Lines(peek(r)) {
				if strings.HasSuffix(strings.TrimSpace(line), " HTTP/1.1") && !strings.HasPrefix(line, http.MethodDelete+" ") {
					return nil, false
				}
			}
			return []string{write, remove}, true
		case blob == "":
			return nil, false
		case (method == http.MethodGet || method == http.MethodHead) && comp == "":
			return []string{read}, true
		case method == http.MethodPut && slices.Contains([]string{"", "block", "blocklist"}, comp):
			return []string{write}, true
		case method == http.MethodDelete && comp == "":
			return []string{remove}, true
		default:
			return nil, false
		}
	}
}

// azureRole is the file that `az role definition create` takes.
type azureRole struct {
	Name, Description   string
	IsCustom            bool
	Actions, NotActions []string
	DataActions         []string
	NotDataActions      []string
	AssignableScopes    []string
}

func (r azureRole) granted() []string { return slices.Concat(r.Actions, r.DataActions) }

// TestAzure records what the driver asks with an account key, and with an
// identity, which needs a key to sign with.
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
	proven(t, b, "azure")
	exercise(t, b)
	r.grants(t, role.granted()...)

	server = emulator.AzuriteOAuth(t)
	beManaged(t)
	r = &recorder{permissions: azurePermissions(server.Account), base: server.Transport}
	cfg := azure.Config{Account: server.Account, Endpoint: server.Endpoint, Container: server.Container(t), Transport: r}
	if b, err = azure.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	exercise(t, b)
	r.grants(t, slices.Concat(role.granted(), signRole.granted())...)
	if _, err := azure.Inspect(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.grants(t, slices.Concat(role.granted(), signRole.granted(), checkRole.granted())...)
}

// beManaged gives the process a managed identity, as App Service does.
// https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
func beManaged(t *testing.T) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		claims := map[string]any{
			"aud": "https://storage.azure.com", "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000001/",
			"oid": "00000000-0000-0000-0000-000000000002", "tid": "00000000-0000-0000-0000-000000000001",
			"iat": now.Unix() - 60, "nbf": now.Unix() - 60, "exp": now.Unix() + 3600,
		}
		encode := func(v any) string {
			data, _ := json.Marshal(v) // of strings and numbers
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
