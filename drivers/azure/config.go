package azure

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/berthhq/berth/drivers"
)

// Config names a container and the credential to use.
type Config struct {
	// Account is the name of the storage account. It may be empty if Endpoint or
	// ConnectionString contains it.
	Account string

	// Container is the container's name. It must exist.
	Container string

	// Endpoint is the URL of the account's blob service. If it is empty, it is
	// https://<account>.blob.core.windows.net. Other clouds, private endpoints
	// and emulators have other URLs.
	Endpoint string

	// SharedKey, ConnectionString and SAS are credentials. At most one of them
	// is set. If none is, the driver uses the identity that the environment
	// provides: a service principal, a workload identity, a managed identity, or
	// the user that is logged in to the Azure command line, in the order of
	// https://learn.microsoft.com/azure/developer/go/sdk/authentication/credential-chains.
	//
	// URLs are signed with the shared key or the identity. With an identity
	// they are valid for at most 6 days. A SAS cannot sign URLs.
	SharedKey        string // an account key, in base64
	ConnectionString string // account, endpoint, and key or SAS in one
	SAS              string // query of a SAS for the container, with the permissions racwdl

	// PublicEndpoint is the URL at which clients of signed URLs reach the blob
	// service; Endpoint if it is empty.
	PublicEndpoint string

	// APIVersion is the version of the service's protocol, such as "2025-11-05";
	// the SDK's newest if it is empty. It is for endpoints that don't support
	// that version yet. Below 2026-04-06 an identity cannot sign URLs.
	APIVersion string

	// Prefix starts the names of all blobs. A "/" at its end makes no
	// difference.
	Prefix string

	// AccessTier is the tier of blobs under drivers.BulkPrefix: Hot, Cool or
	// Cold, or the account's default if it is empty. Archive is refused, because
	// archived blobs can't be read. Open checks that the account accepts it.
	AccessTier string

	// EncryptionScope encrypts all blobs that are written; the container's
	// default if it is empty.
	EncryptionScope string

	// Transport sends the requests to the service. If it is nil, Open creates
	// one with timeouts and a pool of connections for many parallel parts.
	Transport http.RoundTripper

	// Watch, if not nil, wraps the transport of the service, whether it is Transport
	// or that of Open. It sees each attempt. It is for metrics and traces.
	Watch func(http.RoundTripper) http.RoundTripper

	// Log receives messages for the operator about a store that works. If it
	// is nil, nothing is logged.
	Log *slog.Logger

	// For tests: identity replaces the environment's identity, tokens carries
	// its requests for tokens, and pageSize is the most blobs in a page of a
	// listing.
	identity azcore.TokenCredential
	tokens   http.RoundTripper
	pageSize int
}

// Validate returns an error that names the first invalid field. It makes no
// requests, and does not look for the identity that the environment provides.
func (cfg Config) Validate() error {
	if cfg.identity == nil {
		cfg.identity = identity{}
	}
	_, err := newBucket(cfg)
	return err
}

// account is a storage account and one credential for it: key, sas or identity.
type account struct {
	name     string
	endpoint *url.URL // of its blob service, without a "/" at the end
	key      *blob.SharedKeyCredential
	sas      string
	sasEnds  time.Time // zero if the SAS does not contain it
	identity azcore.TokenCredential
	version  version

	// credential is the field of Config with the credential, for messages.
	credential string
}

// resolve returns the account that cfg describes. It returns an error that names
// the first invalid field.
func (cfg Config) resolve() (*account, error) {
	cfg, credential, err := cfg.unpacked()
	if err != nil {
		return nil, err
	}
	if cfg.Endpoint == "" {
		if cfg.Account == "" {
			return nil, errors.New("azure.Config.Account: set it, or azure.Config.Endpoint, or azure.Config.ConnectionString")
		}
		cfg.Endpoint = "https://" + cfg.Account + ".blob.core.windows.net"
	}
	endpoint, err := parseEndpoint("azure.Config.Endpoint", cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	version, err := cfg.version()
	if err != nil {
		return nil, err
	}
	a := &account{name: cmp.Or(cfg.Account, accountOf(endpoint)), endpoint: endpoint, credential: credential, version: version}
	if err := cfg.addCredential(a); err != nil {
		return nil, err
	}
	if a.identity != nil && endpoint.Scheme != "https" {
		return nil, errors.New("azure.Config.Endpoint: want https with an identity, because its tokens are not sent in the clear; or set azure.Config.SharedKey")
	}
	return a, nil
}

// addCredential sets the key, the SAS or the identity of a.
func (cfg Config) addCredential(a *account) (err error) {
	switch {
	case cfg.SharedKey != "":
		if a.key, err = container.NewSharedKeyCredential(a.name, cfg.SharedKey); err != nil {
			return fmt.Errorf("%s: the account key is not base64; copy it from the portal", a.credential)
		}
	case cfg.SAS != "":
		a.sas = strings.TrimPrefix(cfg.SAS, "?")
		q, err := url.ParseQuery(a.sas)
		if err != nil || !q.Has("sig") {
			return fmt.Errorf("%s: want the query of a shared access signature, with its sig=", a.credential)
		}
		a.sasEnds = sasTime(q.Get("se"))
	case cfg.identity != nil:
		a.identity = identity{cfg.identity}
	default:
		options := new(azidentity.DefaultAzureCredentialOptions)
		if cfg.tokens != nil {
			options.Transport = &http.Client{Transport: cfg.tokens}
		}
		chain, err := azidentity.NewDefaultAzureCredential(options)
		if err != nil {
			return fmt.Errorf("%s is not set, and the environment provides no identity: %w", a.credential, err)
		}
		a.identity = identity{chain}
	}
	return nil
}

// sasTime returns a time of a SAS, in any of its valid forms, or zero:
// https://learn.microsoft.com/rest/api/storageservices/formatting-datetime-values.
func sasTime(text string) time.Time {
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t
		}
	}
	return time.Time{}
}

// unpacked returns cfg with the fields of its connection string, and the name of
// the field of Config with the credential.
func (cfg Config) unpacked() (_ Config, credential string, err error) {
	switch {
	case cfg.ConnectionString != "":
		const name = "azure.Config.ConnectionString"
		if cfg, err = cfg.fromConnectionString(); err != nil {
			return cfg, "", fmt.Errorf("%s: %w", name, err)
		}
		return cfg, name, nil
	case cfg.SharedKey != "" && cfg.SAS != "":
		return cfg, "", errors.New("azure.Config.SharedKey and azure.Config.SAS: set only one of them")
	case cfg.SAS != "":
		return cfg, "azure.Config.SAS", nil
	default:
		return cfg, "azure.Config.SharedKey", nil
	}
}

// fromConnectionString returns cfg with the fields of its connection string:
// https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string.
func (cfg Config) fromConnectionString() (Config, error) {
	if cfg.SharedKey != "" || cfg.SAS != "" || cfg.Endpoint != "" {
		return cfg, errors.New("leave out azure.Config.SharedKey, azure.Config.SAS and azure.Config.Endpoint, which it contains")
	}
	fields := map[string]string{"DefaultEndpointsProtocol": "https", "EndpointSuffix": "core.windows.net"}
	for field := range strings.SplitSeq(strings.Trim(cfg.ConnectionString, "; \n"), ";") {
		k, v, ok := strings.Cut(field, "=")
		if !ok {
			return cfg, errors.New("want <name>=<value>, separated by semicolons; copy it from the portal")
		}
		fields[k] = v
	}
	account := fields["AccountName"]
	if cfg.Account != "" && account != "" && account != cfg.Account {
		return cfg, fmt.Errorf("it is for account %q, but azure.Config.Account is %q", account, cfg.Account)
	}
	cfg.Account = cmp.Or(account, cfg.Account)
	cfg.Endpoint, cfg.SharedKey = fields["BlobEndpoint"], fields["AccountKey"]
	if cfg.SharedKey == "" {
		cfg.SAS = fields["SharedAccessSignature"]
	}
	if cfg.SharedKey == "" && cfg.SAS == "" {
		return cfg, errors.New("want AccountKey or SharedAccessSignature in it")
	}
	if cfg.Endpoint == "" && cfg.Account != "" {
		cfg.Endpoint = fields["DefaultEndpointsProtocol"] + "://" + cfg.Account + ".blob." + fields["EndpointSuffix"]
	}
	return cfg, nil
}

// parseEndpoint returns the URL of a blob service, without a "/" at its end.
func parseEndpoint(name, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%s: want a URL such as https://account.blob.core.windows.net", name)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// accountOf returns the account that an endpoint names: in its host or, if that
// is an IP address or localhost as with emulators, in its path.
func accountOf(endpoint *url.URL) string {
	if net.ParseIP(endpoint.Hostname()) != nil || endpoint.Hostname() == "localhost" {
		return strings.TrimPrefix(endpoint.Path, "/")
	}
	name, _, _ := strings.Cut(endpoint.Hostname(), ".")
	return name
}

// prefix returns the prefix of the names of blobs: empty, or with a "/" at its
// end.
func (cfg Config) prefix() (string, error) {
	p := strings.TrimSuffix(cfg.Prefix, "/")
	if p == "" {
		return "", nil
	}
	if err := drivers.CheckKey(p); err != nil {
		return "", fmt.Errorf("azure.Config.Prefix: %w", err)
	}
	if len(p) > 300 {
		return "", fmt.Errorf("azure.Config.Prefix: %d bytes, want at most 300: a blob's name has at most 1024", len(p))
	}
	return p + "/", nil
}

// tier returns the access tier of data, or nil.
func (cfg Config) tier() (*blob.AccessTier, error) {
	if cfg.AccessTier == "" {
		return nil, nil
	}
	tiers := []blob.AccessTier{blob.AccessTierHot, blob.AccessTierCool, blob.AccessTierCold}
	if i := slices.Index(tiers, blob.AccessTier(cfg.AccessTier)); i >= 0 {
		return &tiers[i], nil
	}
	return nil, fmt.Errorf("azure.Config.AccessTier: %q, want Hot, Cool or Cold", cfg.AccessTier)
}

// scope returns the encryption scope of new blobs, or nil.
func (cfg Config) scope() *blob.CPKScopeInfo {
	if cfg.EncryptionScope == "" {
		return nil
	}
	return &blob.CPKScopeInfo{EncryptionScope: &cfg.EncryptionScope}
}
