// Package memory keeps a bucket in memory. It is the reference for the contract
// of package drivers: where its behaviour and the prose of [drivers.Bucket]
// disagree, one of them is wrong.
//
// A [Store] is the bucket itself, and every [drivers.Bucket] that [Open]
// returns for it is one replica's view. A Store can be given the habits of each
// cloud, so that what is built on a Bucket can be tried against all of them
// without one.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berthhq/berth/drivers"
)

// Config says which bucket to open.
type Config struct {
	// Store is the bucket. Those who open the same one see the same objects,
	// as replicas do. If it is nil, Open makes an empty one.
	Store *Store
}

// Store is a bucket: its objects and its uploads. The zero value is an empty
// one with the habits of a directory. The exported fields are set before it is
// opened and not changed afterwards.
type Store struct {
	Habits

	// Now is the store's clock, which dates objects and uploads; nil is
	// time.Now. It is called with the Store locked, so that what is written
	// later is not dated earlier.
	Now func() time.Time

	// Discard drops the bytes of parts and of objects under
	// [drivers.BulkPrefix] as they come, and keeps their sizes and checksums:
	// reading them gives as many zeros. It is for measuring the memory of
	// whatever writes.
	Discard bool

	mu      sync.Mutex
	objects map[string]object
	keys    index              // of objects
	uploads map[string]*upload // by id
	serial  int64              // numbers uploads, generations and attempts
	zeros   []byte             // what discarded bytes are read from
}

// object is one version of an object. What it points to never changes, so
// that readers need no lock.
type object struct {
	drivers.Object
	content drivers.Body
}

// bucket is one opener's view of a Store. It has no state of its own.
type bucket struct {
	*Store
}

var _ drivers.Bucket = bucket{}

// Open opens the bucket. Limits that contradict each other are its only error.
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

// SignGet reports errors.ErrUnsupported: nobody serves a URL.
func (b bucket) SignGet(_ context.Context, key string, _ drivers.SignOptions) (drivers.Signed, error) {
	return drivers.Signed{}, fmt.Errorf("memory: sign %s: %w", key, errors.ErrUnsupported)
}

// Limits are those of the Store's habits.
func (b bucket) Limits() drivers.Limits { return b.Habits.Limits }

// Close does nothing: the Store stays, for whoever opens it next.
func (b bucket) Close() error { return nil }

// now is the store's time. The monotonic reading goes, since it would not
// survive JSON. The Store is locked.
func (s *Store) now() time.Time {
	if s.Now == nil {
		return time.Now().Round(0).UTC()
	}
	return s.Now().Round(0).UTC()
}

// next is a number never used before in this Store, which is locked.
func (s *Store) next() int64 {
	s.serial++
	return s.serial
}

// check says what is wrong with a call before it touches the store.
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
