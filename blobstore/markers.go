package blobstore

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/berthhq/berth/drivers/deadline"
)

// maxKnownMarkers is the number of repositories whose markers a process knows.
const maxKnownMarkers = 10_000

// knownMarkers is the repositories whose marker this process has read or written as good
// within CacheConfig.TTL. A push counts such a marker as there, because the collector
// waits for longer than the TTL and a request before it removes a marker that it has
// condemned. A nil knownMarkers is always empty.
type knownMarkers = lru.Cache[string, deadline.Deadline]

// newKnownMarkers returns nil if the cache is turned off.
func newKnownMarkers(cfg CacheConfig) (*knownMarkers, error) {
	if cfg.Entries < 1 || cfg.TTL < 1 {
		return nil, nil //nolint:nilnil // a nil knownMarkers is always empty
	}
	return lru.New[string, deadline.Deadline](min(cfg.Entries, maxKnownMarkers))
}

// ensureMarker makes the marker of a repository good, unless this process knows that it
// is. It returns the errors of the catalog.
func (s *Store) ensureMarker(ctx context.Context, due deadline.Deadline, repository string) error {
	if s.markers == nil {
		return s.catalog.EnsureMarker(ctx, due, repository)
	}
	if age, ok := s.markers.Get(repository); ok && age.Check() == nil {
		return nil
	}
	age := deadline.New(s.cfg.Cache.TTL) // it starts before the request to the store
	if err := s.catalog.EnsureMarker(ctx, due, repository); err != nil {
		return err
	}
	s.markers.Add(repository, age)
	return nil
}
