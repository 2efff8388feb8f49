package blobstore

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/redirect"
	"github.com/berthhq/berth/upload"
)

// Config configures a [Store]. The zero value of a field stands for the default
// that its comment names. All processes that serve one bucket should have the same
// RequestLimit and Grace.
type Config struct {
	// Log receives failures that no caller gets as an error, such as a read that
	// broke off in the middle of a response. The default discards them.
	Log *slog.Logger

	// InlineMax is the size in bytes up to which a blob is stored in its record,
	// and not under a data key. It is at most 64 KiB. The default is 16 KiB.
	InlineMax int64

	Upload    UploadConfig
	Cache     CacheConfig
	Manifests ManifestConfig

	// RequestLimit is the longest time that a request may take. After it the
	// request writes nothing more. The default is 6 hours.
	RequestLimit time.Duration

	// Grace is the age from which the collector may remove an object that
	// nothing names. It is at least twice RequestLimit. The default is 24 hours.
	Grace time.Duration

	// Redirect decides where reads are redirected. The default redirects to URLs
	// that the bucket signs, and serves a read directly if the bucket cannot sign.
	Redirect *redirect.Policy

	// Access, if not nil, wraps the descriptor service of each repository, and so
	// can deny every access to a blob.
	Access BlobDescriptorServiceFactory
}

// UploadConfig limits uploads. The defaults of its zero fields are a Memory of 256
// MiB, a PartSize of 16 MiB, 4 ParallelParts, a SessionLifetime of 144 hours, a
// MaxWaiting of 4096, and no limit for MaxBlobSize. A negative MaxWaiting lets no
// upload wait.
type UploadConfig = upload.Settings

// CacheConfig limits the cache of links and aliases that were read.
type CacheConfig struct {
	// Entries is the number of links, and the number of aliases, that are kept.
	// The default is 100,000. A negative number turns the cache off.
	Entries int

	// TTL is how long an entry is kept, and so how long another process may
	// serve a blob after it was deleted. The default is one minute. A negative
	// duration turns the cache off.
	TTL time.Duration
}

func (c Config) withDefaults() Config {
	orDefault(&c.Log, slog.New(slog.DiscardHandler))
	orDefault(&c.InlineMax, 16<<10)
	orDefault(&c.Upload.Memory, 256<<20)
	orDefault(&c.Upload.PartSize, 16<<20)
	orDefault(&c.Upload.ParallelParts, 4)
	orDefault(&c.Upload.SessionLifetime, 144*time.Hour)
	orDefault(&c.Upload.MaxWaiting, 4096)
	c.Upload.MaxWaiting = max(c.Upload.MaxWaiting, 0)
	orDefault(&c.Cache.Entries, 100_000)
	orDefault(&c.Cache.TTL, time.Minute)
	c.Manifests.setDefaults()
	orDefault(&c.RequestLimit, 6*time.Hour)
	orDefault(&c.Grace, 24*time.Hour)
	return c
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate returns an error for each field that no store allows. The error names
// the field. Validate sends no request. Open calls it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var problems []error
	if c.InlineMax < 0 || c.InlineMax > envelope.MaxRaw {
		problems = append(problems, fmt.Errorf("blobstore.Config.InlineMax: %d bytes, want 0 to %d", c.InlineMax, envelope.MaxRaw))
	}
	if c.RequestLimit < 0 {
		problems = append(problems, fmt.Errorf("blobstore.Config.RequestLimit: %v, want more than 0", c.RequestLimit))
	}
	if c.Grace < 2*c.RequestLimit {
		problems = append(problems, fmt.Errorf("blobstore.Config.Grace: %v, want at least twice blobstore.Config.RequestLimit (%v)", c.Grace, c.RequestLimit))
	}
	return errors.Join(append(problems, c.Upload.Validate(), c.Manifests.validate())...)
}
