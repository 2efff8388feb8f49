package blobstore

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// inlineBudget limits the bytes of inline blobs that are kept in memory.
const inlineBudget = 32 << 20

// cache holds links and aliases that were read. It serves reads only, and holds
// positive answers only: for everything else the store is asked. A nil cache is
// always empty.
type cache struct {
	ttl     time.Duration
	links   *lru.Cache[linkID, expiring[catalog.Record]]
	inline  *lru.Cache[linkID, expiring[[]byte]]
	aliases *lru.Cache[digest.Digest, expiring[digest.Digest]]

	// epoch is the number of deletions. A read that started before a deletion
	// must not put the deleted link back.
	mu    sync.Mutex
	epoch uint64
}

type linkID struct {
	repository string
	digest     digest.Digest // canonical
}

type expiring[T any] struct {
	value T
	until time.Time
}

// newCache returns nil if the cache is turned off.
func newCache(cfg CacheConfig, inlineMax int64) (*cache, error) {
	if cfg.Entries < 1 || cfg.TTL < 1 {
		return nil, nil //nolint:nilnil // a nil cache is always empty
	}
	c := &cache{ttl: cfg.TTL}
	var err error
	if c.links, err = lru.New[linkID, expiring[catalog.Record]](cfg.Entries); err != nil {
		return nil, err
	}
	if c.inline, err = lru.New[linkID, expiring[[]byte]](min(cfg.Entries, inlineBudget/int(max(inlineMax, 1)))); err != nil {
		return nil, err
	}
	c.aliases, err = lru.New[digest.Digest, expiring[digest.Digest]](cfg.Entries)
	return c, err
}

// now returns the epoch of a read that starts now.
func (c *cache) now() uint64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// link returns a link, and reports whether it is in the cache. If wantInline is
// set, the link of an inline blob is in the cache only together with the blob's
// bytes, of which the cache holds fewer than links.
func (c *cache) link(id linkID, wantInline bool) (link catalog.Record, inline []byte, ok bool) {
	if c == nil {
		return catalog.Record{}, nil, false
	}
	now := time.Now()
	l, ok := c.links.Get(id)
	if !ok || now.After(l.until) {
		return catalog.Record{}, nil, false
	}
	if !wantInline || l.value.Data != "" || l.value.Size == 0 {
		return l.value, nil, true
	}
	p, ok := c.inline.Get(id)
	if !ok || now.After(p.until) {
		return catalog.Record{}, nil, false
	}
	return l.value, p.value, true
}

// putLink adds a link that was read, unless a link was deleted since the read
// started, in that epoch.
func (c *cache) putLink(epoch uint64, id linkID, link catalog.Record, inline []byte) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return
	}
	until := time.Now().Add(c.ttl)
	c.links.Add(id, expiring[catalog.Record]{link, until})
	if link.Data == "" {
		c.inline.Add(id, expiring[[]byte]{inline, until})
	}
}

// forget removes a link that was deleted or replaced.
func (c *cache) forget(id linkID) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.links.Remove(id)
	c.inline.Remove(id)
}

// alias returns the canonical digest that the alias of d names, and reports whether
// it is in the cache.
func (c *cache) alias(d digest.Digest) (canonical digest.Digest, ok bool) {
	if c == nil {
		return "", false
	}
	a, ok := c.aliases.Get(d)
	return a.value, ok && !time.Now().After(a.until)
}

// putAlias adds an alias. It needs no epoch, because an alias stays true.
func (c *cache) putAlias(d, canonical digest.Digest) {
	if c != nil {
		c.aliases.Add(d, expiring[digest.Digest]{canonical, time.Now().Add(c.ttl)})
	}
}
