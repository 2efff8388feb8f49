// Package config loads berth's configuration: one tree of keys, set from low to
// high precedence by defaults, a YAML file, BERTH_* environment variables and
// flags. Every key is one line of the table in keys.go, which defines its
// default, environment variable, validation and documentation.
//
// Unknown keys and values that are not allowed are refused from every source, so
// that no setting is silently ignored.
package config

import (
	"time"

	"github.com/berthhq/berth/redirect"
)

// Config is a valid configuration, returned by [Load]. Its fields are the keys of
// the table, which documents them. It must not be copied.
type Config struct {
	Listen    Listen
	PublicURL string

	TrustedProxies []string

	HTTP      HTTP
	Storage   Storage
	Upload    Upload
	Cache     Cache
	Redirect  Redirect
	Delete    Delete
	Limits    Limits
	GC        GC
	Telemetry Telemetry

	table []key // with the values that were loaded
}

// Listen is the section listen: where and how to serve.
type Listen struct {
	Address string
	H2C     bool
}

// HTTP is the section http: the use of berth by browsers.
type HTTP struct {
	CORS CORS
}

// CORS is the section http.cors. Without origins it is off.
type CORS struct {
	Origins     []string // only "*" for every origin
	Credentials bool
	MaxAge      time.Duration
}

// Storage is the section storage: which store, and how to reach it.
type Storage struct {
	Driver     string
	Prefix     string
	InlineMax  int64 // bytes
	Filesystem Filesystem
	S3         S3
	GCS        GCS
	Azure      Azure
}

// Filesystem is the section storage.filesystem.
type Filesystem struct {
	Root string
}

// S3 is the section storage.s3.
type S3 struct {
	Bucket          string
	Region          string
	Endpoint        string
	PathStyle       bool
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	Profile         string
	RoleARN         string
	PublicEndpoint  string
	SSE             string
	KMSKeyID        string
	StorageClass    string
	Checksum        string
	EqualParts      string // auto, true or false
	Headers         map[string]*string
	Accelerate      bool
	DualStack       bool
	FIPS            bool
	Retries         int
	Connections     int

	CAFile              string
	ExpectedBucketOwner string
	RequestPayer        string
}

// GCS is the section storage.gcs.
type GCS struct {
	Bucket          string
	Endpoint        string
	CredentialsFile string
	PublicEndpoint  string
	SignAs          string
	KMSKey          string
	StorageClass    string
	UniverseDomain  string
}

// Azure is the section storage.azure.
type Azure struct {
	Account          string
	Container        string
	Endpoint         string
	SharedKey        string
	ConnectionString string
	SAS              string
	PublicEndpoint   string
	AccessTier       string
	EncryptionScope  string
	APIVersion       string
}

// Upload is the section upload.
type Upload struct {
	Memory          int64 // bytes
	PartSize        int64 // bytes
	ParallelParts   int
	SessionLifetime time.Duration
	MaxWaiting      int
	MaxBlobSize     int64 // bytes; 0 is no limit
}

// Cache is the section cache.
type Cache struct {
	Entries int
	TTL     time.Duration
}

// Redirect is the section redirect. Package redirect documents its fields.
type Redirect struct {
	Expiry         time.Duration
	Window         time.Duration
	TrustedProxies int
	Default        string
	CDN            map[string]*redirect.CDN
	Rules          []redirect.Rule
}

// Delete is the section delete.
type Delete struct {
	Enabled bool
}

// Limits is the section limits.
type Limits struct {
	Request  time.Duration
	Drain    time.Duration
	Shutdown time.Duration
}

// GC is the section gc.
type GC struct {
	Grace    time.Duration
	Schedule string
}

// Telemetry is the section telemetry.
type Telemetry struct {
	LogLevel  string
	LogFormat string
}

// RedirectPolicy returns the policy of the section redirect, for a service at
// public_url.
func (c *Config) RedirectPolicy() (*redirect.Policy, error) {
	r := c.Redirect
	cdns := map[string]redirect.CDN{}
	for name, cdn := range r.CDN {
		cdns[name] = *cdn
	}
	return redirect.New(redirect.Config{
		Expiry: r.Expiry, Window: r.Window, MaxPresign: c.Storage.maxPresign(), CDN: cdns, Rules: r.Rules, Default: r.Default,
		PublicURL: c.PublicURL, TrustedNetworks: c.TrustedProxies, TrustedProxies: r.TrustedProxies,
	})
}

// maxPresign returns the longest lifetime of a URL that the store signs, or zero
// for the longest that any store allows. Azure issues signing keys to identities
// for a week, and berth fetches a new key every day.
func (s *Storage) maxPresign() time.Duration {
	if a := s.Azure; s.Driver == "azure" && a.SharedKey == "" && a.ConnectionString == "" && a.SAS == "" {
		return 6 * 24 * time.Hour
	}
	return 0
}
