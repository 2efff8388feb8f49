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

// DefaultUniverse is the universe domain of Google Cloud itself.
const DefaultUniverse = "googleapis.com"

// Config says which bucket, and how to reach it. Only Bucket is required.
type Config struct {
	Bucket string

	// Prefix begins every name of berth's in the bucket, at most 128 bytes. A
	// "/" at its end makes no difference.
	Prefix string

	// Endpoint is the URL of the store, without a path, where it is not
	// https://storage. and the universe domain: a private endpoint, or an
	// emulator. Without CredentialsFile nothing authenticates at an endpoint of
	// the scheme http, so that no token ever crosses a network in the clear.
	Endpoint string

	// PublicEndpoint is the URL that signed URLs begin with, where clients reach
	// the store by another name than berth does. The bucket stays in the path.
	PublicEndpoint string

	// CredentialsFile is a file of JSON credentials: the key of a service
	// account, or the configuration of a workload identity federation or of an
	// impersonation. If it is empty, Application Default Credentials are looked
	// for: https://cloud.google.com/docs/authentication/application-default-credentials.
	CredentialsFile string

	// SignAs is the e-mail address of the service account that signs URLs by
	// IAM's signBlob, where the credentials hold no private key. If it is empty
	// it is the account that the credentials stand for. The permission is
	// iam.serviceAccounts.signBlob, on that account.
	SignAs string

	// UniverseDomain is DefaultUniverse if empty.
	UniverseDomain string

	// StorageClass is that of keys under drivers.BulkPrefix and of their parts;
	// the bucket's default if empty. Records are always in the bucket's default
	// class: they are small and read all the time. Open tries whether the store
	// takes it.
	StorageClass string

	// KMSKey is the resource name of a Cloud KMS key,
	// projects/P/locations/L/keyRings/R/cryptoKeys/K; the bucket's default if
	// empty.
	KMSKey string

	// Transport makes the requests to the store, below authentication; one of
	// its own, over HTTP/1.1, if nil.
	Transport http.RoundTripper

	// Log gets what an operator should know of a store that works. Nothing is
	// logged if it is nil.
	Log *slog.Logger
}

const maxPrefix = 128

// check says which setting is wrong, by its key in the configuration.
func (c *Config) check() error {
	if c.Bucket == "" {
		return errors.New("storage.gcs.bucket: it is empty: name a bucket")
	}
	if strings.ContainsAny(c.Bucket, "/?#%") {
		return fmt.Errorf("storage.gcs.bucket: %q: want the bare name of a bucket", c.Bucket)
	}
	if p := strings.TrimSuffix(c.Prefix, "/"); p != "" {
		if len(p) > maxPrefix {
			return fmt.Errorf("storage.prefix: %d bytes, want at most %d", len(p), maxPrefix)
		}
		if err := drivers.CheckKey(p); err != nil {
			return fmt.Errorf("storage.prefix: %w", err)
		}
	}
	for key, value := range map[string]string{"endpoint": c.Endpoint, "public_endpoint": c.PublicEndpoint} {
		if value == "" {
			continue
		}
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return fmt.Errorf("storage.gcs.%s: want a URL of scheme and host only, such as https://storage.%s", key, DefaultUniverse)
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
		return DefaultUniverse
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

// anonymous says that requests carry no credentials.
func (c *Config) anonymous() bool {
	return c.CredentialsFile == "" && strings.HasPrefix(c.Endpoint, "http://")
}
