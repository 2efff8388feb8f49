// Package memory keeps a bucket in memory. It is the reference for the contract
// of package drivers: where its behaviour and the documentation of
// [drivers.Bucket] disagree, one of them is wrong.
//
// A [Store] is the bucket itself, and every [drivers.Bucket] that [Open]
// returns for it is the view of one replica. A Store can have the habits of
// each cloud, so tests can run against all of them without a cloud.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berthhq/berth/drivers"
)

// Config selects the bucket to open.
type Config struct {
	// Store is the bucket. All Buckets opened with the same Store share its
	// objects, as replicas do. If it is nil, Open creates an empty Store.
	Store *Store
}

// Store is a bucket: its objects and its uploads. The zero value is an empty
// bucket with the habits of a directory. Set the exported fields before the
// first Open and do not change them afterwards.
type Store struct {
	Habits

	// Now is the store's clock, which dates objects and uploads. If it is nil,
	// the store uses time.Now. Now is called with the Store locked, so a later
	// write never has an earlier date.
	Now func() time.Time

	// Discard drops the bytes of parts, and of objects under
	// [drivers.BulkPrefix], as they arrive, and keeps their sizes and
	// checksums. Reads return the same number of zeros. It serves to measure
	// the memory of the code that writes.
	Discard bool

	mu      sync.Mutex
	objects map[string]object
	keys    index              // of objects
	uploads map[string]*upload // by id
	serial  int64              // numbers uploads, generations and attempts
	zeros   []byte             // what reads of discarded bytes return
}

// object is one version of an object. Its content never changes, so readers
// need no lock.
type object struct {
	drivers.Object
	content drivers.Body
}

// bucket is a view of a Store. It has no other state.
type bucket struct {
	*Store
}

var _ drivers.Bucket = bucket{}

// Open opens the bucket. It returns an error only if the Store's limits
// contradict each other.
func Open(_ context.Context, cfg Config) (drivers.Bucket, error) {
	s := cfg.Store
	if s == nil {
		s = &Store{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Limits == (drivers.Limits{}) {
		s.Limits = directoryLimits
	}
	if l := s.Limits; l.MaxPart < 1 || l.MaxParts < 1 || l.MinPart < 0 || l.MinPart > l.MaxPart {
		return nil, fmt.Errorf("memory: Store.Limits: %+v", l)
	}
	if s.objects == nil {
		s.objects = make(map[string]object)
		s.uploads = make(map[string]*upload)
	}
	return bucket{s}, nil
}

// SignGet returns errors.ErrUnsupported, because no server answers URLs of a
// Store.
func (b bucket) SignGet(_ context.Context, key string, _ drivers.SignOptions) (drivers.Signed, error) {
	return drivers.Signed{}, fmt.Errorf("memory: sign %s: %w", key, errors.ErrUnsupported)
}

// Limits returns the limits of the Store's habits.
func (b bucket) Limits() drivers.Limits { return b.Habits.Limits }

// Close does nothing. The Store keeps its objects for the next Open.
func (b bucket) Close() error { return nil }

// now returns the store's time, without the monotonic reading, which JSON does
// not preserve. The caller holds the lock.
func (s *Store) now() time.Time {
	if s.Now == nil {
		return time.Now().Round(0).UTC()
	}
	return s.Now().Round(0).UTC()
}

// next returns a number that was never used before in this Store. The caller
// holds the lock.
func (s *Store) next() int64 {
	s.serial++
	return s.serial
}

// check returns an error if ctx has ended or a key is malformed.
func check(ctx context.Context, keys ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, key := range keys {
		if err := drivers.CheckKey(key); err != nil {
			return err
		}
	}
	return nil
}
