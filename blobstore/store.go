package blobstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/redirect"
	"github.com/berthhq/berth/upload"
)

// Config says how a Store works. The zero value of each field stands for the
// default that its comment gives.
type Config struct {
	Log *slog.Logger // nil: discard

	InlineMax int64 // bytes; a blob up to that is stored in its record. 16 KiB; at most 64 KiB
	Upload    UploadConfig
	Cache     CacheConfig

	RequestLimit time.Duration // the longest that a request may last. 6 h
	Grace        time.Duration // the collector's: what is younger is not collected. 24 h

	// Redirect decides where reads are sent. nil: sign if the driver can, else
	// serve directly.
	Redirect *redirect.Policy

	// Access, if not nil, stands before every access to a blob.
	Access BlobDescriptorServiceFactory
}

// UploadConfig bounds uploads. Fields that are zero have these defaults: 256 MiB
// of Memory, a PartSize of 16 MiB, 4 ParallelParts, a SessionLifetime of 144 h,
// and 4096 requests for MaxWaiting, of which a negative number is none.
type UploadConfig = upload.Settings

// CacheConfig bounds what is remembered of links that were read.
type CacheConfig struct {
	Entries int           // 100,000; a negative number is no cache
	TTL     time.Duration // 1 min
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
	orDefault(&c.RequestLimit, 6*time.Hour)
	orDefault(&c.Grace, 24*time.Hour)
	return c
}

// Validate returns an error for each field that no store allows. It names the
// field, and makes no requests.
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
	return errors.Join(append(problems, c.Upload.Validate())...)
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Store is the blobs of all repositories in a bucket. It is safe for concurrent
// use.
type Store struct {
	bucket  drivers.Bucket
	cfg     Config
	catalog *catalog.Catalog
	uploads *upload.Manager
	cache   *cache
	signs   bool // the bucket signs URLs
}

var _ BlobEnumerator = (*Store)(nil)

// Open opens the blob service in a bucket, and makes one of a bucket that is
// empty. The bucket stays the caller's to close. Errors name the key of the
// configuration that is wrong.
func Open(ctx context.Context, bucket drivers.Bucket, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	s := &Store{bucket: bucket, cfg: cfg, catalog: catalog.New(bucket, cfg.Grace)}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if s.cfg.Redirect == nil {
		policy, err := redirect.New(redirect.Config{})
		if err != nil {
			return nil, err
		}
		s.cfg.Redirect = policy
	}
	if err := s.catalog.CheckFormat(ctx); err != nil {
		return nil, err
	}
	var err error
	s.uploads, err = upload.Open(ctx, upload.Config{
		Bucket:    bucket,
		Layout:    catalog.Layout{},
		Log:       cfg.Log,
		InlineMax: cfg.InlineMax,
		Settings:  cfg.Upload,
	})
	if err != nil {
		return nil, err
	}
	s.signs = canSign(ctx, bucket)
	s.cache, err = newCache(cfg.Cache, cfg.InlineMax)
	return s, err
}

// canSign reports whether the bucket signs URLs, also if it can't at the moment.
func canSign(ctx context.Context, bucket drivers.Bucket) bool {
	ctx, cancel := context.WithTimeout(ctx, envelope.SmallCallTimeout)
	defer cancel()
	_, err := bucket.SignGet(ctx, drivers.BulkPrefix+"check", drivers.SignOptions{Expires: redirect.DefaultExpiry, Window: redirect.DefaultWindow})
	return !errors.Is(err, errors.ErrUnsupported)
}

// Ping asks the bucket for an object that every service has. It costs one
// request, and an error is the store's or the network's.
func (s *Store) Ping(ctx context.Context) error {
	return s.catalog.Ping(ctx)
}

// newDeadline returns the deadline of a request that starts now.
func (s *Store) newDeadline() deadline.Deadline { return deadline.New(s.cfg.RequestLimit) }

// Drain cuts off all uploads that are still receiving, and keeps what their
// clients have sent. It is for a process that shuts down, when waiting for
// them has taken too long.
func (s *Store) Drain() { s.uploads.Drain() }

// Repository is the blobs that one repository can read and write. Its whole
// name counts, with the domain if it has one.
func (s *Store) Repository(name reference.Named) *Repository {
	r := &Repository{s: s, name: name.Name()}
	r.access = descriptors{r}
	if s.cfg.Access != nil {
		r.access = s.cfg.Access.BlobAccessController(r.access)
	}
	return r
}

// Enumerate calls ingester for each digest that some repository has, in
// ascending order.
func (s *Store) Enumerate(ctx context.Context, ingester func(digest.Digest) error) error {
	return s.EnumerateAfter(ctx, "", ingester)
}

// EnumerateAfter is Enumerate for the digests after a given one, which need not
// be there, so that an enumeration can go on where another one stopped.
func (s *Store) EnumerateAfter(ctx context.Context, after digest.Digest, ingester func(digest.Digest) error) error {
	if after != "" {
		if err := checkCanonical(after); err != nil {
			return err
		}
	}
	for d, err := range s.catalog.Linked(ctx, after) {
		if err != nil {
			return translate(err)
		}
		if err := ingester(d); err != nil {
			return err
		}
	}
	return nil
}
