package collect

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthhq/berth/drivers"
)

// Report is what a run has done, or what it would have done if DryRun is set.
type Report struct {
	Started time.Time `json:"started"` // by the store's clock
	DryRun  bool      `json:"dry_run"`
	Seconds float64   `json:"seconds"`

	Requests Requests `json:"requests"`

	// What is left alone because it could not be read or removed is counted here, and
	// logged. A later run tries again.
	LeftAlone int64 `json:"left_alone"`

	Repositories int64 `json:"repositories"` // that were read whole

	Manifests Counts `json:"manifests"`
	Tags      Counts `json:"tags"`
	Entries   Counts `json:"entries"` // of referrers; those that were missing count as restored
	Links     Counts `json:"links"`   // bytes: the size of their blobs, which other repositories may still have
	Markers   Counts `json:"markers"`
	Records   Counts `json:"records"` // bytes: of the blobs
	Aliases   Counts `json:"aliases"`
	Sessions  Counts `json:"sessions"`
	Uploads   Counts `json:"uploads"`
	Dead      Counts `json:"dead"` // entries in the list of data that is to be deleted; condemned: those that are new
	Data      Counts `json:"data"` // bytes: what was freed

	// ByRepository are the repositories that lose something.
	ByRepository map[string]RepositoryReport `json:"by_repository,omitempty"`
}

// Counts is what becomes of the objects of one kind.
type Counts struct {
	Condemned int64 `json:"condemned,omitempty"` // marked, so that a later run may remove them
	Restored  int64 `json:"restored,omitempty"`  // no longer marked
	Removed   int64 `json:"removed,omitempty"`
	Bytes     int64 `json:"bytes,omitempty"` // of those that were removed
}

// RepositoryReport is what a repository loses.
type RepositoryReport struct {
	Manifests Counts `json:"manifests"`
	Tags      Counts `json:"tags"`
	Links     Counts `json:"links"`

	// Frees is the bytes of blobs that no repository has a good link to any more. Those of
	// several repositories count for the first. They are freed by later runs.
	Frees int64 `json:"frees"`
}

func (r RepositoryReport) isEmpty() bool {
	return r.Manifests.isEmpty() && r.Tags.isEmpty() && r.Links.isEmpty() && r.Frees == 0
}

func (c Counts) isEmpty() bool { return c.Condemned == 0 && c.Removed == 0 }

// tally is a Report in the making.
type tally struct {
	mu    sync.Mutex
	total Report
}

// count counts what became of an object.
func (t *tally) count(c *Counts, v verdict, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch v {
	case keep:
	case condemn:
		c.Condemned++
	case restore:
		c.Restored++
	case remove:
		c.Removed++
		c.Bytes += bytes
	}
}

// update changes the report.
func (t *tally) update(change func(r *Report)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.total)
}

// close adds what a repository loses.
func (t *tally) close(name string, lost RepositoryReport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if lost.isEmpty() {
		return
	}
	if t.total.ByRepository == nil {
		t.total.ByRepository = map[string]RepositoryReport{}
	}
	t.total.ByRepository[name] = lost
}

func (t *tally) snapshot() Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.total
	r.ByRepository = maps.Clone(r.ByRepository)
	return r
}

// failures are the objects that are left alone because the store failed, or because they
// could not be read.
type failures struct {
	log *slog.Logger

	mu    sync.Mutex
	first []error
	n     int64
}

const (
	maxReported = 20   // failures in the error of a run
	maxFailures = 1000 // after which a run ends
)

// add adds the failure of an object, if err is not nil.
func (f *failures) add(key string, err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; len(f.first) < maxReported {
		f.first = append(f.first, fmt.Errorf("%s: %w", key, err))
	}
	f.log.Warn("left alone", "key", key, "error", err)
}

func (f *failures) count() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// tooMany returns an error if a run cannot usefully continue.
func (f *failures) tooMany() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	refused := errors.Is(errors.Join(f.first...), drivers.ErrRefused)
	if f.n > maxFailures || refused {
		return fmt.Errorf("%d objects were left alone, the run ends: %w", f.n, errors.Join(f.first...))
	}
	return nil
}

// err returns an error if anything was left alone.
func (f *failures) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		return nil
	}
	return fmt.Errorf("%d objects were left alone: %w", f.n, errors.Join(f.first...))
}

// Progress is how far a run is.
type Progress struct {
	Step     string        // the name of the step
	Done     int           // parts of the step that are done
	Total    int           // parts of the step; 0 if it is not known
	Elapsed  time.Duration // since the step started
	Requests Requests      // of the whole run
}

// progress is the Progress of the present run.
type progress struct {
	mu    sync.Mutex
	name  string
	began time.Time
	total int
	done  atomic.Int64
}

func (p *progress) step(name string, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name, p.total, p.began = name, total, time.Now()
	p.done.Store(0)
}

func (p *progress) add() { p.done.Add(1) }

// Progress returns how far the present run is.
func (c *Collector) Progress() Progress {
	p := &c.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	return Progress{p.name, int(p.done.Load()), p.total, time.Since(p.began), c.meter.counts()}
}
