package blobstore

import (
	"context"
	"errors"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/redirect"
	"github.com/berthhq/berth/upload"
)

// Store is the blobs of all repositories in a bucket. It is safe for concurrent
// use. Any number of processes may open a Store on the same bucket.
type Store struct {
	bucket  drivers.Bucket
	cfg     Config
	catalog *catalog.Catalog
	uploads *upload.Manager
	cache   *cache
	signs   bool // the bucket signs URLs

	immutable      immutability
	manifestBodies *manifestBodies
	markers        *knownMarkers
	loads          slots
	listReads      slots
	longReferrers  slots
	damaged        *damagedManifests
}

var _ BlobEnumerator = (*Store)(nil)

// Open opens the blob service in a bucket. In an empty bucket it creates the
// service. The caller closes the bucket once the Store is no longer used.
//
// Open returns an error that names the field of cfg if a value is wrong, and an
// error if the bucket has another format version. It may be called again after any
// error.
func Open(ctx context.Context, bucket drivers.Bucket, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Redirect == nil {
		policy, err := redirect.New(redirect.Config{})
		if err != nil {
			return nil, err
		}
		cfg.Redirect = policy
	}
	s := &Store{bucket: bucket, cfg: cfg, catalog: catalog.New(bucket), loads: make(slots, maxLoads), listReads: make(slots, maxListReads), longReferrers: make(slots, maxLongReferrers)}
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
	if s.damaged, err = newDamagedManifests(); err != nil {
		return nil, err
	}
	if s.immutable, err = newImmutability(cfg.Manifests.ImmutableTags); err != nil {
		return nil, err
	}
	if err := s.catalog.RaiseLimits(ctx, s.limits()); err != nil {
		return nil, err
	}
	s.manifestBodies = newManifestBodies(cfg.Manifests, cfg.Upload.MaxWaiting)
	if s.markers, err = newKnownMarkers(cfg.Cache); err != nil {
		return nil, err
	}
	s.signs = canSign(ctx, bucket)
	s.cache, err = newCache(cfg)
	return s, err
}

// limits returns how long this process, or a client, may rely on what it has read.
func (s *Store) limits() catalog.Limits {
	return catalog.Limits{
		Request: s.cfg.RequestLimit,
		Cache:   max(s.cfg.Cache.TTL, 0), // negative if the cache is turned off
		Session: s.cfg.Upload.SessionLifetime,
		URL:     s.cfg.Redirect.MaxLife(),
	}
}

// canSign reports whether the bucket signs URLs. A bucket that fails to sign at the
// moment is one that does.
func canSign(ctx context.Context, bucket drivers.Bucket) bool {
	ctx, cancel := context.WithTimeout(ctx, envelope.SmallCallTimeout)
	defer cancel()
	_, err := bucket.SignGet(ctx, catalog.ExampleDataKey, drivers.SignOptions{Expires: redirect.DefaultExpiry, Window: redirect.DefaultWindow})
	return !errors.Is(err, errors.ErrUnsupported)
}

// Ping sends one request to the store, for an object that every bucket has that
// was opened. It returns the error of the store or of the network.
func (s *Store) Ping(ctx context.Context) error { return s.catalog.Ping(ctx) }

// newDeadline returns the deadline of a request that starts now.
func (s *Store) newDeadline() deadline.Deadline { return deadline.New(s.cfg.RequestLimit) }

// DeriveKey returns a secret key of 32 bytes for this purpose, the same in every
// process that has opened the service.
func (s *Store) DeriveKey(purpose string) []byte { return s.uploads.DeriveKey(purpose) }

// SigningKey returns a secret of 32 bytes for signatures that clients keep, the same in
// every process that has opened the service. Deleting [catalog.SigningKey] makes the next
// process create another, and does not affect uploads, unlike the key of DeriveKey.
func (s *Store) SigningKey(ctx context.Context) ([]byte, error) {
	key, err := upload.SharedKey(ctx, s.bucket, catalog.SigningKey)
	return key, publicError(err)
}

// Drain stops all uploads that are still receiving, and records what their
// clients have sent. It refuses manifests that have not arrived yet. A process that
// shuts down calls it once it has waited long enough. Drain does not wait until the
// uploads are recorded.
func (s *Store) Drain() {
	s.uploads.Drain()
	s.manifestBodies.budget.Drain()
}

// Repository returns the repository with this name, which includes the domain if
// there is one. Every name is a repository. It sends no request to the store.
func (s *Store) Repository(name reference.Named) *Repository {
	r := &Repository{s: s, name: name.Name()}
	r.descriptors = descriptors{r}
	if s.cfg.Access != nil {
		r.descriptors = s.cfg.Access.BlobAccessController(r.descriptors)
	}
	return r
}

// Enumerate calls ingester for the canonical digest of each blob that at least one
// repository has, in ascending order. It returns the first error, of the store or
// of ingester. It holds one page of a listing in memory.
func (s *Store) Enumerate(ctx context.Context, ingester func(digest.Digest) error) error {
	return s.EnumerateAfter(ctx, "", ingester)
}

// EnumerateAfter is Enumerate for the digests after the given canonical digest,
// which need not exist. An enumeration that stopped continues after the last
// digest that its ingester was called for.
func (s *Store) EnumerateAfter(ctx context.Context, after digest.Digest, ingester func(digest.Digest) error) error {
	if after != "" {
		if err := checkCanonical(after); err != nil {
			return err
		}
	}
	for d, err := range s.catalog.Linked(ctx, after) {
		if err != nil {
			return publicError(err)
		}
		if err := ingester(d); err != nil {
			return err
		}
	}
	return nil
}
