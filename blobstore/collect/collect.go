package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/rules"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/redirect/match"
	"github.com/berthhq/berth/upload"
)

// Config configures a [Collector]. The zero value of a field stands for what its comment
// names.
type Config struct {
	// Bucket is the bucket that is collected. It is required.
	Bucket drivers.Bucket

	// Limits are those of the process's own configuration. A run uses the larger of
	// these and of those that the processes of the bucket have stored there.
	Limits catalog.Limits

	// Grace is the age from which an object that nothing names may be removed. Run
	// refuses one under three times Limits.Request, plus Limits.Cache.
	Grace time.Duration

	// UntaggedAfter is how long a manifest that nothing names stays after it was found
	// so, and at least for the grace. Zero keeps such manifests.
	UntaggedAfter time.Duration

	// UnreferencedAfter is the same for links to blobs that no manifest of their
	// repository names. Zero keeps them.
	UnreferencedAfter time.Duration

	// Keep are globs over names of repositories whose links all stay.
	Keep []string

	// Rate is the largest number of requests to the store in a second. Zero is no limit.
	Rate int

	// Concurrency is the largest number of requests at a time. Zero stands for 1.
	Concurrency int

	// Scratch is the directory of temporary files, which hold 36 bytes for each blob in
	// each manifest. An empty one stands for that of the system.
	Scratch string

	// DryRun reports what a run would do. Such a run stores one small object, from which
	// it takes the store's time, and deletes it.
	DryRun bool

	// Log gets what a run leaves alone. Nil discards it.
	Log *slog.Logger

	// Broken is for tests only.
	Broken rules.Broken
}

// Collector removes from a bucket what nothing names any more.
type Collector struct {
	cfg      Config
	keep     []match.Glob
	meter    *meter
	progress progress
}

// New returns a Collector. It sends no request to the store. Its error names the field of
// cfg that is wrong.
func New(cfg Config) (*Collector, error) {
	var problems []error
	if cfg.Bucket == nil {
		problems = append(problems, errors.New("collect: no bucket"))
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"Grace", cfg.Grace}, {"UntaggedAfter", cfg.UntaggedAfter}, {"UnreferencedAfter", cfg.UnreferencedAfter}} {
		if d.value < 0 {
			problems = append(problems, fmt.Errorf("collect.Config.%s: %v, want 0 or more", d.field, d.value))
		}
	}
	if cfg.Rate < 0 {
		problems = append(problems, fmt.Errorf("collect.Config.Rate: %d, want 0 or more", cfg.Rate))
	}
	if cfg.Concurrency < 0 {
		problems = append(problems, fmt.Errorf("collect.Config.Concurrency: %d, want 0 or more", cfg.Concurrency))
	}
	c := &Collector{cfg: cfg}
	for i, glob := range cfg.Keep {
		g, err := match.ParseGlob(glob)
		if err != nil {
			problems = append(problems, fmt.Errorf("collect.Config.Keep[%d]: %w", i, err))
		}
		c.keep = append(c.keep, g)
	}
	c.cfg.Concurrency = max(cfg.Concurrency, 1)
	if cfg.Log == nil {
		c.cfg.Log = slog.New(slog.DiscardHandler)
	}
	limit := rate.Inf
	if cfg.Rate > 0 {
		limit = rate.Limit(cfg.Rate)
	}
	c.meter = &meter{Bucket: cfg.Bucket, limiter: rate.NewLimiter(limit, max(1, min(cfg.Rate, 100)))}
	return c, errors.Join(problems...)
}

// Run collects once. It may run in several processes at a time, and be killed at any
// point: another run does the rest.
//
// Run returns a [GraceError] if the grace is too short. After any other error the Report
// has what was done until then. What could not be read or removed is left alone and
// reported, and makes Run return an error at its end that wraps the causes.
func (c *Collector) Run(ctx context.Context) (Report, error) {
	began := time.Now()
	r, err := c.start(ctx)
	if err != nil {
		return Report{DryRun: c.cfg.DryRun}, fmt.Errorf("collect: %w", err)
	}
	defer r.close()
	err = r.steps(ctx)
	report := r.report.snapshot()
	report.Seconds = time.Since(began).Seconds()
	report.Requests = c.meter.counts()
	report.LeftAlone = r.failures.count()
	if err == nil {
		err = r.failures.err()
	}
	if err != nil {
		return report, fmt.Errorf("collect: %w", err)
	}
	return report, nil
}

// GraceError reports a grace that is too short to be safe.
type GraceError struct {
	Grace time.Duration // that is configured
	Least time.Duration // that is safe with the limits of the bucket
}

// Error names the field, and what to do.
func (e *GraceError) Error() string {
	return fmt.Sprintf("collect.Config.Grace: %v is too short, want at least %v: three times the largest request limit of any process of the bucket, plus the time for which it caches",
		e.Grace, e.Least)
}

// run is one run of a Collector.
type run struct {
	*Collector

	catalog *catalog.Catalog // through the meter
	reaper  *upload.Reaper
	limits  catalog.Limits // the largest
	start   time.Time      // by the store's clock
	key     string         // of the start

	finished finished // as the run found it
	walked   walked
	repos    []*repository
	byName   map[string]*repository
	names    *names
	aliases  *aliasCache
	reads    chan struct{} // manifests that are in memory

	report   tally
	failures failures
}

// start creates the start of a run. Its time is the store's.
func (c *Collector) start(ctx context.Context) (*run, error) {
	r := &run{
		Collector: c,
		catalog:   catalog.New(c.meter),
		reaper:    upload.NewReaper(c.meter, catalog.Layout{}),
		limits:    c.cfg.Limits,
		byName:    map[string]*repository{},
		reads:     make(chan struct{}, c.cfg.Concurrency),
		failures:  failures{log: c.cfg.Log},
	}
	c.progress.step("start", 0)
	stored, err := r.catalog.ReadLimits(ctx)
	if err != nil && !errors.Is(err, drivers.ErrNotFound) {
		return nil, err
	}
	r.limits = r.limits.Raised(stored)
	if least := 3*r.limits.Request + r.limits.Cache; c.cfg.Grace < least {
		return nil, &GraceError{c.cfg.Grace, least}
	}
	if r.aliases, err = newAliasCache(); err != nil {
		return nil, err
	}
	if r.names, err = newNames(c.cfg.Scratch); err != nil {
		return nil, err
	}
	if err := r.begin(ctx); err != nil {
		r.close()
		return nil, err
	}
	r.report.total.Started, r.report.total.DryRun = r.start, c.cfg.DryRun
	return r, nil
}

func (r *run) close() { r.names.close() }

// steps makes all steps of a run. Each relies on those before it. An error ends the run.
func (r *run) steps(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		r.markAll, r.names.finish, r.collectBlobs, r.collectMarkers, r.collectSessions,
		r.collectUploads, r.collectData, r.collectDead, r.collectAliases, r.end,
	} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := r.failures.tooMany(); err != nil {
			return err
		}
	}
	return nil
}

// old reports whether an object was modified more than a grace before the run.
func (r *run) old(o drivers.Object) bool { return r.before(o, r.cfg.Grace) }

// before reports whether an object was modified more than age before the run. Both times
// are the store's.
func (r *run) before(o drivers.Object, age time.Duration) bool {
	return o.Modified.Before(r.start.Add(-age))
}
