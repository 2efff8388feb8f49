// Package config is berth's configuration: one tree of keys, filled from low
// to high precedence by defaults, a YAML file, BERTH_* environment variables
// and flags. Every key is one line of the table in keys.go, from which its
// default, its environment variable, its validation and its documentation
// follow.
//
// A key that does not exist and a value that is not allowed are refused,
// wherever they come from: a configuration that is accepted does what it says.
package config

import (
	"maps"
	"slices"
	"time"
)

// Config is a valid configuration, as [Load] returns it. The fields are the
// keys of the table; what they mean is said there. It is not copied.
type Config struct {
	Listen    string
	PublicURL string
	Storage   Storage
	Upload    Upload
	Cache     Cache
	Redirect  Redirect
	Delete    Delete
	Limits    Limits
	GC        GC
	Telemetry Telemetry

	table []key // as it was filled
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
	EqualParts      bool
	Accelerate      bool
	DualStack       bool
	FIPS            bool
}

// GCS is the section storage.gcs.
type GCS struct {
	Bucket          string
	Endpoint        string
	CredentialsFile string
	PublicEndpoint  string
	KMSKey          string
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

// Redirect is the section redirect.
type Redirect struct {
	Expiry time.Duration
	CDN    map[string]*CDN
	Rules  []Rule
}

// CDN is one entry of redirect.cdn.
type CDN struct {
	Kind    string
	BaseURL string
}

// Rule is one entry of redirect.rules. Conditions that are empty always hold.
type Rule struct {
	From       []string // networks, CIDR
	Repository string   // glob
	MinSize    int64    // bytes
	UserAgent  string   // glob
	Target     string   // presign, direct or cdn:<name>
}

// Delete is the section delete.
type Delete struct {
	Enabled bool
}

// Limits is the section limits.
type Limits struct {
	Request  time.Duration
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

// cdnNames are the names of the CDNs, in order.
func (c *Config) cdnNames() []string {
	return slices.Sorted(maps.Keys(c.Redirect.CDN))
}
