package scrub

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/pace"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// Config configures a run. The zero value of a field stands for the default that its
// comment names.
type Config struct {
	// Concurrency is the number of blobs or manifests that are read at a time. The default
	// is 8.
	Concurrency int

	// Rate is the largest number of requests to the store a second. The default is no
	// limit.
	Rate float64

	// Bandwidth is the largest number of bytes of blobs that are read a second. The default
	// is no limit.
	Bandwidth int64

	// RequestLimit is how long a run may rely on what it has read. It is that of the
	// servers. The default is 6 hours.
	RequestLimit time.Duration

	// Cheap compares sizes, and reads no bytes of blobs.
	Cheap bool

	// Quarantine marks blobs as damaged that are damaged or missing.
	Quarantine bool

	// SparseIndexes accepts indexes whose manifests the repository does not have.
	SparseIndexes bool

	// Restart ignores the position of an interrupted run.
	Restart bool

	// Share is the share of all blobs after which the run stops, and a later run continues.
	// The default is all.
	Share float64

	// Found, if not nil, is called for each new finding, before its tags are known. It is
	// never called concurrently.
	Found func(Finding)

	// Progress, if not nil, is called once a second with the counts so far.
	Progress func(Report)
}

func (c Config) withDefaults() (Config, error) {
	var problems []error
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"Concurrency", float64(c.Concurrency)}, {"Rate", c.Rate}, {"Bandwidth", float64(c.Bandwidth)},
		{"RequestLimit", float64(c.RequestLimit)}, {"Share", c.Share},
	} {
		if f.value < 0 {
			problems = append(problems, fmt.Errorf("scrub.Config.%s: %v, want at least 0", f.name, f.value))
		}
	}
	if c.Concurrency == 0 {
		c.Concurrency = 8
	}
	if c.RequestLimit == 0 {
		c.RequestLimit = 6 * time.Hour
	}
	if c.Share == 0 {
		c.Share = 1
	}
	return c, errors.Join(problems...)
}

// ErrContinuedElsewhere reports that another run has continued from the position of this
// one.
var ErrContinuedElsewhere = errors.New("scrub: another run has started since, and continues")

// state is the body at catalog.ScrubKey.
type state struct {
	Cheap      bool          `json:"cheap,omitempty"`
	After      digest.Digest `json:"after,omitempty"`      // the last blob that was verified
	Manifests  bool          `json:"manifests,omitempty"`  // all blobs were verified
	Repository string        `json:"repository,omitempty"` // the last repository that was checked
	Findings   []Finding     `json:"findings,omitempty"`
	More       int64         `json:"more,omitempty"`
	Complete   bool          `json:"complete,omitempty"`
}

// run is one run.
type run struct {
	cfg     Config
	bucket  *pace.Bucket
	catalog *catalog.Catalog
	bytes   *rate.Limiter
	state   envelope.Stored[state]
	saved   time.Time
	ledger
}

// burst is the largest number of bytes for which Config.Bandwidth is asked at a time.
const burst = 256 << 10

// Run verifies the bucket. It continues an interrupted run of the same mode. It returns a
// report, also with an error. An error means that the run has not reached its end; call Run
// again to continue. Findings are no error.
func Run(ctx context.Context, bucket drivers.Bucket, cfg Config) (*Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return &Report{}, err
	}
	r := &run{cfg: cfg, bucket: pace.New(bucket, cfg.Rate), bytes: pace.Limiter(float64(cfg.Bandwidth), burst), saved: time.Now()}
	r.catalog = catalog.New(r.bucket)
	r.notify, r.byKey = cfg.Found, map[string]int{}
	r.report.Cheap, r.report.Findings = cfg.Cheap, []Finding{}
	if err := r.start(ctx); err != nil {
		return &r.report, err
	}
	stop := r.showProgress()
	err = r.phases(ctx)
	stop()
	rep := r.snapshot()
	return &rep, err
}

func (r *run) phases(ctx context.Context) error {
	if !r.state.Value.Manifests {
		if done, err := r.blobs(ctx); err != nil || !done {
			return errors.Join(err, r.save(ctx))
		}
	}
	if err := r.repositories(ctx); err != nil {
		return err
	}
	r.add(func(rep *Report) { rep.Complete, rep.Done = true, 1 })
	r.state.Value.Complete = true
	return r.save(ctx)
}

// start reads the position, and makes other runs stop.
func (r *run) start(ctx context.Context) error {
	if err := r.catalog.CheckFormat(ctx); err != nil {
		return err
	}
	if err := r.catalog.RaiseLimits(ctx, catalog.Limits{Request: r.cfg.RequestLimit}); err != nil {
		return err
	}
	return pace.Retry(ctx, func() error {
		stored, err := envelope.Read[state](ctx, r.bucket, catalog.ScrubKey)
		switch {
		case errors.Is(err, drivers.ErrNotFound):
			r.state, err = envelope.Create(ctx, r.bucket, catalog.ScrubKey, state{Cheap: r.cfg.Cheap}, drivers.Body{})
			return err
		case err != nil:
			return err
		}
		next := stored.Value
		if next.Complete || next.Cheap != r.cfg.Cheap || r.cfg.Restart {
			next = state{Cheap: r.cfg.Cheap}
		}
		r.state, err = envelope.Replace(ctx, r.bucket, catalog.ScrubKey, stored.Object.Tag, next, drivers.Body{})
		if err != nil {
			return err
		}
		r.report.Resumed = next.After != "" || next.Manifests
		r.report.MoreFindings = next.More
		for _, f := range next.Findings {
			r.byKey[key(f.Kind, f.Digest)] = len(r.report.Findings)
			r.report.Findings = append(r.report.Findings, f)
		}
		return nil
	})
}

// save stores the position. It returns ErrContinuedElsewhere if another run has started.
func (r *run) save(ctx context.Context) error {
	rep := r.snapshot()
	next := r.state.Value
	next.Findings, next.More = rep.Findings, rep.MoreFindings
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), envelope.SmallCallTimeout)
	defer cancel()
	stored, err := envelope.Replace(ctx, r.bucket, catalog.ScrubKey, r.state.Object.Tag, next, drivers.Body{})
	if errors.Is(err, drivers.ErrChanged) {
		return ErrContinuedElsewhere
	}
	if err == nil {
		r.state, r.saved = stored, time.Now()
	}
	return err
}

// saveEvery is how long a run works before it stores its position.
const saveEvery = 15 * time.Second

func (r *run) saveSometimes(ctx context.Context) error {
	if time.Since(r.saved) < saveEvery {
		return nil
	}
	return r.save(ctx)
}

func (r *run) deadline() deadline.Deadline { return deadline.New(r.cfg.RequestLimit) }

// share returns how many of all digests come before d, from 0 to 1.
func share(d digest.Digest) float64 {
	if d == "" {
		return 0
	}
	n, err := strconv.ParseUint(d.Encoded()[:8], 16, 32)
	if err != nil {
		return 0
	}
	return float64(n) / (1 << 32)
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
				r.cfg.Progress(r.snapshot())
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}
