package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// Collector stands in for berth's collector until berth has one. It keeps the rules
// that requests rely on: it condemns before it removes, it removes only what was
// condemned at least a grace before the run, and only by the tag of the condemned
// version. It computes ages from the store's modification times. It deletes no data of
// blobs.
type Collector struct {
	Bucket drivers.Bucket

	Grace        time.Duration
	RequestLimit time.Duration // the oldest read that decides a write
	Lifetime     time.Duration // of sessions

	// UntaggedAfter is the age from which manifests that nothing names are
	// removed. Zero keeps them.
	UntaggedAfter time.Duration

	// UnreferencedAfter is the age from which links that no manifest names are
	// removed. Zero keeps them.
	UnreferencedAfter time.Duration

	// Finished remembers the runs that have finished. Runs that follow each other
	// share it. If it is nil, no run is remembered.
	Finished *Finished

	// Started, if not nil, is called once a run has its start.
	Started func()
}

// Finished holds, for each repository, the start of the last finished run that has read
// the whole repository.
type Finished struct{ start map[string]time.Time }

// collection is one run of a Collector.
type collection struct {
	*Collector
	ctx   context.Context //nolint:containedctx // of the run
	start time.Time       // by the store's clock

	repositories map[string]*collected // that have a marker
	names        map[blob]bool         // blobs that a manifest names
	left         findings              // what was left alone, and why
}

// collected is a repository during a run.
type collected struct {
	name      string
	marker    catalog.StoredMarker
	whole     bool // everything in it was read
	manifests map[digest.Digest]Manifest
	named     map[digest.Digest]bool // manifests
	links     int                    // in the walk over the links
}

// Run collects once. It returns an error for everything that it left alone because the
// store failed, or because an object could not be read. A run may be killed at any
// call, and runs may overlap.
func (c *Collector) Run(ctx context.Context) error {
	key := catalog.MetaPrefix + "gc/" + catalog.NewID() + "/start"
	if _, err := envelope.Create(ctx, c.Bucket, key, struct{}{}, drivers.Body{}); err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	start, err := c.Bucket.Stat(ctx, key)
	if err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	if c.Started != nil {
		c.Started()
	}
	run := &collection{
		Collector:    c,
		ctx:          ctx,
		start:        start.Modified,
		repositories: map[string]*collected{},
		names:        map[blob]bool{},
	}
	for _, step := range []func() error{
		run.mark, run.collectManifests, run.collectLinks, run.collectRepositories, run.collectAliases, run.collectRecords,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("collector: %w", err)
		}
	}
	run.finish()
	if err := c.Bucket.Delete(ctx, key); err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	return errors.Join(run.left...)
}

func (c *collection) finish() {
	if c.Finished == nil {
		return
	}
	if c.Finished.start == nil {
		c.Finished.start = map[string]time.Time{}
	}
	for name, r := range c.repositories {
		if r.whole && c.start.After(c.Finished.start[name]) {
			c.Finished.start[name] = c.start
		}
	}
}

// old reports whether an object was modified more than a grace before the run.
func (c *collection) old(o drivers.Object) bool { return c.olderThan(o, c.Grace) }

func (c *collection) olderThan(o drivers.Object, age time.Duration) bool {
	return o.Modified.Before(c.start.Add(-age))
}

// verdict is what becomes of an object.
type verdict int

const (
	keep    verdict = iota
	rewrite         // by the changed value
	remove
)

// settle reads an object, lets decide choose what becomes of it, and does that by the
// tag that was read. decide changes the value for a rewrite. An object that has changed
// or vanished meanwhile is kept.
func settle[T any](c *collection, key string, decide func(*envelope.Stored[T]) verdict) {
	due := deadline.New(c.RequestLimit)
	s, found, _ := find[T](c, key)
	if !found {
		return
	}
	var err error
	switch decide(&s) {
	case rewrite:
		if err = due.Check(); err == nil {
			_, err = envelope.Replace(c.ctx, c.Bucket, key, s.Object.Tag, s.Value, drivers.NewBody(s.Raw))
		}
	case remove:
		if err = due.Check(); err == nil {
			err = c.Bucket.DeleteIf(c.ctx, key, s.Object.Tag)
		}
	}
	if err != nil && !errors.Is(err, drivers.ErrChanged) {
		c.left.add("%s: %w", key, err)
	}
}

// find reads an object. It returns found only if the object exists, and ok unless the
// store failed or the object could not be read. Such an error is recorded.
func find[T any](c *collection, key string) (s envelope.Stored[T], found, ok bool) {
	s, found, err := exists(envelope.Read[T](c.ctx, c.Bucket, key))
	if err != nil {
		c.left.add("%s: %w", key, err)
	}
	return s, found, err == nil
}

// exists reports whether an object was found. s and err are the results of reading it.
func exists[T any](s T, err error) (T, bool, error) {
	if errors.Is(err, drivers.ErrNotFound) {
		return s, false, nil
	}
	return s, err == nil, err
}

// sorted returns the entries of a map in the order of their keys, so that a run makes
// the same calls each time.
func sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
