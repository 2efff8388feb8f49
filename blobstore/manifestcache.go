package blobstore

import (
	"bytes"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

type manifestID struct {
	repository string
	digest     digest.Digest
}

// manifestCache holds live manifests, with their bytes if these are at most
// envelope.MaxRaw. It is bounded in bytes. A nil manifestCache is always empty.
//
// The bytes of an entry have its digest: they were hashed before the entry was added.
type manifestCache struct {
	limit int64 // bytes

	mu      sync.Mutex
	used    int64 // bytes
	entries *simplelru.LRU[manifestID, aging[catalog.StoredManifest]]
}

// manifestOverhead is the bytes that an entry takes besides its strings and the bytes
// of the manifest.
const manifestOverhead = 1 << 10

// newManifestCache returns nil if limit is not positive.
func newManifestCache(limit int64) (*manifestCache, error) {
	if limit < 1 {
		return nil, nil //nolint:nilnil // a nil manifestCache is always empty
	}
	m := &manifestCache{limit: limit}
	var err error
	m.entries, err = simplelru.NewLRU(int(limit/manifestOverhead)+1, func(id manifestID, e aging[catalog.StoredManifest]) {
		m.used -= entrySize(id, e.value)
	})
	return m, err
}

// entrySize returns the bytes of memory that an entry takes.
func entrySize(id manifestID, m catalog.StoredManifest) int64 {
	n := manifestOverhead + len(id.repository) + cap(m.Raw) + len(m.Value.MediaType) + len(m.Value.ArtifactType)
	for _, hint := range m.Value.Hints {
		n += len(hint)
	}
	return int64(n)
}

func (m *manifestCache) get(id manifestID) (catalog.StoredManifest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries.Get(id)
	return e.value, ok && e.fresh()
}

func (m *manifestCache) add(id manifestID, e aging[catalog.StoredManifest]) {
	e.value.Raw = bytes.Clone(e.value.Raw) // the caller's slice may be part of a larger one
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries.Remove(id)
	m.entries.Add(id, e)
	m.used += entrySize(id, e.value)
	for m.used > m.limit {
		m.entries.RemoveOldest()
	}
}

func (m *manifestCache) remove(id manifestID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries.Remove(id)
}

// manifest returns a manifest, and reports whether it is in the cache. It has no
// bytes (Raw) if it has more than envelope.MaxRaw.
func (c *cache) manifest(id manifestID) (catalog.StoredManifest, bool) {
	if c == nil || c.manifests == nil {
		return catalog.StoredManifest{}, false
	}
	return c.manifests.get(id)
}

// putManifest adds a manifest that was read or written since that moment, unless it
// is not live, or something was deleted meanwhile. The caller has hashed its bytes.
func (c *cache) putManifest(since moment, id manifestID, m catalog.StoredManifest) {
	if c == nil || c.manifests == nil || m.Value.State != catalog.Live {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if since.epoch == c.epoch {
		c.manifests.add(id, aging[catalog.StoredManifest]{m, since.age})
	}
}

// forgetManifest removes a manifest that was deleted, or whose bytes are damaged. A
// deletion calls it before it returns.
func (c *cache) forgetManifest(id manifestID) {
	if c == nil || c.manifests == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.manifests.remove(id)
}
