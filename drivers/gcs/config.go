package gcs

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// defaultUniverse is the universe domain of Google Cloud itself.
const defaultUniverse = "googleapis.com"

// Config names a bucket and how to reach it. Only Bucket is required.
type Config struct {
	Bucket string

	// Prefix starts every name of berth's in the bucket. It has at most 128
	// bytes. A "/" at its end makes no difference.
	Prefix string

	// Endpoint is the URL of the store, without a path, if it is not
	// https://storage. and the universe domain: a private endpoint, or an
	// emulator. At an endpoint of the scheme http requests carry no credentials
	// unless CredentialsFile is set, so that no token crosses a network in the
	// clear by accident.
	Endpoint string

	// PublicEndpoint is the URL that signed URLs start with, if clients reach
	// the store by another name than berth does. The bucket stays in the path.
	PublicEndpoint string

	// CredentialsFile is a file of JSON credentials: the key of a service
	// account, or the configuration of a workload identity federation or of an
	// impersonation. If it is empty, Application Default Credentials are used:
	// https://cloud.google.com/docs/authentication/application-default-credentials.
	CredentialsFile string

	// SignAs is the e-mail address of the service account that signs URLs by
	// IAM's signBlob, if the credentials hold no private key. If it is empty,
	// the credentials' own account signs. This requires the permission
	// iam.serviceAccounts.signBlob on that account.
	SignAs string

	// UniverseDomain is the universe domain; defaultUniverse if empty.
	UniverseDomain string

	// StorageClass is the class of keys under drivers.BulkPrefix and of their
	// parts; the bucket's default if empty. Records always have the bucket's
	// default class: they are small and read all the time. Open checks that the
	// store accepts it.
	StorageClass string

	// KMSKey is the resource name of a Cloud KMS key,
	// projects/P/locations/L/keyRings/R/cryptoKeys/K; the bucket's default if
	// empty.
	KMSKey string

	// Transport sends the requests to the store, below authentication. If it
	// is nil, Open creates one that speaks HTTP/1.1.
	Transport http.RoundTripper

	// Watch, if not nil, wraps the transport of the store, whether it is Transport or
	// that of Open. It sees each attempt. It is for metrics and traces.
	Watch func(http.RoundTripper) http.RoundTripper

	// Log receives messages for the operator about a store that works. If it
	// is nil nothing is logged.
	Log *slog.Logger

	// pageSize is, in tests, the most objects in one page of a listing; maxResults if
	// it is 0.
	pageSize int
}

const maxPrefix = 128

// Validate returns an error that names the first invalid field. It makes no
// requests.
func (c *Config) Validate() error {
	if c.Bucket == "" {
		return errors.New("gcs.Config.Bucket: name a bucket")
	}
	if strings.ContainsAny(c.Bucket, "/?#%") {
		return fmt.Errorf("gcs.Config.Bucket: %q: want the bare name of a bucket", c.Bucket)
	}
	if p := strings.TrimSuffix(c.Prefix, "/"); p != "" {
		if len(p) > maxPrefix {
			return fmt.Errorf("gcs.Config.Prefix: %d bytes, want at most %d", len(p), maxPrefix)
		}
		if err := drivers.CheckKey(p); err != nil {
			return fmt.Errorf("gcs.Config.Prefix: %w", err)
		}
	}
	for field, value := range map[string]string{"Endpoint": c.Endpoint, "PublicEndpoint": c.PublicEndpoint} {
		if value == "" {
			continue
		}
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return fmt.Errorf("gcs.Config.%s: want a URL of scheme and host only, such as https://storage.%s", field, defaultUniverse)
		}
	}
	return nil
}

func (c *Config) prefix() string {
	if p := strings.TrimSuffix(c.Prefix, "/"); p != "" {
		return p + "/"
	}
	return ""
}

func (c *Config) universe() string {
	if c.UniverseDomain == "" {
		return defaultUniverse
	}
	return c.UniverseDomain
}

func (c *Config) endpoint() string {
	if c.Endpoint == "" {
		return "https://storage." + c.universe()
	}
	return strings.TrimRight(c.Endpoint, "/")
}

func (c *Config) publicEndpoint() string {
	if c.PublicEndpoint == "" {
		return c.endpoint()
	}
	return strings.TrimRight(c.PublicEndpoint, "/")
}

// anonymous reports whether requests carry no credentials.
func (c *Config) anonymous() bool {
	return c.CredentialsFile == "" && strings.HasPrefix(c.Endpoint, "http://")
}
