package blobstore

import (
	"sync/atomic"

	"github.com/berthhq/berth/upload/budget"
)

// Usage is a snapshot of what a Store holds in memory and of how often its caches
// have helped, for metrics.
type Usage struct {
	Uploads   budget.Usage // of Config.Upload.Memory
	Manifests budget.Usage // of Config.Manifests.Memory

	// Caches has the lookups of reads in each cache, by its name: "links", "aliases"
	// and "manifests". It is empty if the caches are turned off.
	Caches map[string]CacheUsage
}

// CacheUsage is the lookups in a cache since the Store was opened.
type CacheUsage struct {
	Hits, Misses uint64
}

// Usage returns the present usage. It sends no request to the store.
func (s *Store) Usage() Usage {
	u := Usage{Uploads: s.uploads.Memory(), Manifests: s.manifestBodies.budget.Usage(), Caches: map[string]CacheUsage{}}
	if s.cache != nil {
		for i, name := range cacheNames {
			u.Caches[name] = CacheUsage{Hits: s.cache.counts[i].hits.Load(), Misses: s.cache.counts[i].misses.Load()}
		}
	}
	return u
}

// cacheKind is the index of a cache in the counts.
type cacheKind int

const (
	cacheOfLinks cacheKind = iota
	cacheOfAliases
	cacheOfManifests
	cacheKinds
)

var cacheNames = [cacheKinds]string{"links", "aliases", "manifests"}

type cacheCount struct{ hits, misses atomic.Uint64 }

// count counts a lookup by a read.
func (c *cache) count(kind cacheKind, hit bool) {
	switch {
	case c == nil:
	case hit:
		c.counts[kind].hits.Add(1)
	default:
		c.counts[kind].misses.Add(1)
	}
}
