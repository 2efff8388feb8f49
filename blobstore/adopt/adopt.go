package adopt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distribution/reference"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/pace"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
)

// Config configures a run. The zero value of a field stands for the default that its
// comment names.
type Config struct {
	// Concurrency is the number of requests to the store at a time. The default is 32.
	Concurrency int

	// Rate is the largest number of requests to the store a second. The default is no
	// limit.
	Rate float64

	// RequestLimit is how long a run may rely on what it has read. It is that of the
	// servers. The default is 6 hours.
	RequestLimit time.Duration

	// MaxManifest is the size in bytes of the largest manifest that is taken over. The
	// default is 4 MiB, the largest that the old registry accepts.
	MaxManifest int64

	// Immutable reports whether a tag may not be moved once it exists. By default all
	// tags may be moved.
	Immutable func(repository, tag string) bool

	// DryRun makes a run read only, and report what it would do.
	DryRun bool

	// Skipped, if not nil, is called for each thing that is not taken over. It is never
	// called concurrently.
	Skipped func(Skip)

	// Progress, if not nil, is called once a second with the counts so far.
	Progress func(Report)
}

const (
	defaultConcurrency = 32
	defaultMaxManifest = 4 << 20
	maxRepositories    = 8      // that are taken over at a time
	maxKnown           = 10_000 // records
	manifestMemory     = 128 << 20
)

func (c Config) withDefaults() (Config, error) {
	var problems []error
	for _, f := range []struct {
		name  string
		value float64
	}{{"Concurrency", float64(c.Concurrency)}, {"Rate", c.Rate}, {"RequestLimit", float64(c.RequestLimit)}, {"MaxManifest", float64(c.MaxManifest)}} {
		if f.value < 0 {
			problems = append(problems, fmt.Errorf("adopt.Config.%s: %v, want at least 0", f.name, f.value))
		}
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.RequestLimit == 0 {
		c.RequestLimit = 6 * time.Hour
	}
	if c.MaxManifest == 0 {
		c.MaxManifest = defaultMaxManifest
	}
	if c.Immutable == nil {
		c.Immutable = func(string, string) bool { return false }
	}
	return c, errors.Join(problems...)
}

// ErrNoRegistry reports that the bucket has no CNCF distribution registry under its prefix.
var ErrNoRegistry = errors.New("no repository under " + catalog.DistributionPrefix +
	": the prefix of the bucket must be the rootdirectory of the old registry")

// run is one run.
type run struct {
	cfg     Config
	bucket  *pace.Bucket
	catalog *catalog.Catalog
	slots   chan struct{} // one for each request, or for the few of one item
	loads   chan struct{} // one for each manifest in memory
	known   *lru.Cache[digest.Digest, knownRecord]
	ledger
}

// knownRecord is a record that this run has created, replaced or read as live. A link may
// be written to it until the deadline.
type knownRecord struct {
	rec catalog.StoredRecord
	due deadline.Deadline
}

// Run takes over all repositories of the CNCF distribution registry in the bucket, under
// the bucket's prefix. It returns a report, also with an error. After an error, call it
// again: it takes over what is missing. It returns ErrNoRegistry if there is no repository.
func Run(ctx context.Context, bucket drivers.Bucket, cfg Config) (*Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return &Report{}, err
	}
	known, err := lru.New[digest.Digest, knownRecord](maxKnown)
	if err != nil {
		return &Report{}, err
	}
	r := &run{cfg: cfg, bucket: pace.New(bucket, cfg.Rate), slots: make(chan struct{}, cfg.Concurrency), known: known}
	r.loads = make(chan struct{}, max(1, manifestMemory/cfg.MaxManifest))
	r.catalog = catalog.New(r.bucket)
	r.skip = cfg.Skipped
	r.report.DryRun = cfg.DryRun
	r.report.Skipped = []Skip{}
	stop := r.showProgress()
	defer stop()
	if !cfg.DryRun {
		if err := r.catalog.CheckFormat(ctx); err != nil {
			return &r.report, err
		}
		if err := r.catalog.RaiseLimits(ctx, catalog.Limits{Request: cfg.RequestLimit}); err != nil {
			return &r.report, err
		}
	}
	err = r.repositories(ctx)
	if err == nil && r.report.Repositories == 0 && len(r.report.Skipped) == 0 {
		err = ErrNoRegistry
	}
	return &r.report, err
}

// showProgress calls Config.Progress once a second until the returned function is called.
func (r *run) showProgress() (stop func()) {
	if r.cfg.Progress == nil {
		return func() {}
	}
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				r.cfg.Progress(r.counts())
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

// repositories takes over all repositories. It finds the next one with a listing that
// starts after all keys of the last one.
func (r *run) repositories(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxRepositories)
	for after := ""; ctx.Err() == nil; {
		name, last, err := r.nextRepository(ctx, after)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if last == "" {
			break
		}
		after = last
		if name == "" {
			continue
		}
		if _, err := reference.WithName(name); err != nil {
			r.skipped(Skip{name, "repository", name, "its name is not that of a repository"})
			continue
		}
		group.Go(func() error {
			if err := r.repository(ctx, name); err != nil {
				return fmt.Errorf("adopt: repository %s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// nextRepository returns the first repository with a key greater than after, and a key
// after all of its keys. It returns no last key if there is none, and no name if the next
// key belongs to no repository.
func (r *run) nextRepository(ctx context.Context, after string) (name, last string, err error) {
	err = pace.Retry(ctx, func() error {
		name, last = "", ""
		for o, err := range r.bucket.List(ctx, catalog.DistributionRepos(), after, 1) {
			if err != nil {
				return err
			}
			var ok bool
			if name, last, ok = catalog.DistributionRepo(o.Key); !ok {
				name, last = "", o.Key
			}
			break
		}
		return nil
	})
	return name, last, err
}

// repository takes over one repository.
func (r *run) repository(ctx context.Context, name string) error {
	a := &adoption{run: r, repository: name}
	if err := a.start(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{a.layers, a.manifests, a.tags, a.finish} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	r.add(func(rep *Report) { rep.Repositories++ })
	return nil
}

// each calls do for each object with the prefix that parse accepts, many at a time. It
// repeats do if the store is busy.
func each[T any](ctx context.Context, r *run, prefix string, parse func(drivers.Object) (T, bool), do func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for o, err := range r.bucket.List(ctx, prefix, "", 0) {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		item, ok := parse(o)
		if !ok {
			continue
		}
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return group.Wait()
		}
		group.Go(func() error {
			defer func() { <-r.slots }()
			return pace.Retry(ctx, func() error { return do(ctx, item) })
		})
	}
	return group.Wait()
}
