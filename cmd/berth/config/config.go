// Package config loads berth's configuration, a tree of keys. Their values come
// from defaults, a YAML file, BERTH_* environment variables and flags, in
// increasing precedence. Each key is one entry of the table in keys.go, which
// defines its field, default, allowed values and documentation. Most fields are
// those of the Config structs of the libraries, so a new key needs an entry in
// the table and nothing else.
//
// Load returns an error for unknown keys and for values that are not allowed,
// from any source, so that no setting is silently ignored. The libraries validate
// their own fields. Their errors name fields, which KeysIn replaces with keys.
package config

import (
	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/collect"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/auth"
	"github.com/berthhq/berth/cmd/berth/server"
	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/gcs"
	"github.com/berthhq/berth/drivers/s3"
	"github.com/berthhq/berth/redirect"
)

// Config is a valid configuration, returned by [Load]. The table documents its
// fields. A Config must not be copied, because the table points into it.
type Config struct {
	Address   string // host:port to listen on
	Server    server.Config
	API       ocihttp.Config
	Blobs     blobstore.Config
	Storage   Storage
	Redirect  redirect.Config
	Auth      auth.Config
	Collect   collect.Config
	GC        GC
	Admin     Admin
	Telemetry Telemetry

	cdns  map[string]*redirect.CDN // become Redirect.CDN
	table []key                    // with the values that were loaded
}

// Storage is the section storage: the bucket that holds the registry. Only the
// Config of the Driver is checked and used.
//
// Data is the section storage.data: the bucket that holds the data of blobs. If its
// Driver is empty, the data is in the same bucket as everything else.
type Storage struct {
	Data *Storage

	Driver     string
	Filesystem filesystem.Config
	S3         s3.Config
	GCS        gcs.Config
	Azure      azure.Config
}

// GC is the section gc, without what is in Config.Collect.
type GC struct {
	Schedule string
}

// Admin is the section admin.
type Admin struct {
	Address string // host:port, AdminAuto or AdminOff
}

// Values of Admin.Address. AdminAuto is AdminAutoAddress if that is free. Otherwise
// several processes on one host would each need a setting.
const (
	AdminAuto        = "auto"
	AdminOff         = "off"
	AdminAutoAddress = "127.0.0.1:5001"
)

// Telemetry is the section telemetry.
type Telemetry struct {
	LogLevel  string
	LogFormat string
}
