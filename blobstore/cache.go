package blobstore

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// inlineBudget bounds the content of inline blobs that is kept in memory, in
// bytes.
const inlineBudget = 32 << 20

// cache remembers links and aliases that were read. It serves reads only, and
// has positive answers only: what it doesn't know, the store is asked.
type cache struct {
	ttl     time.Duration
	links   *lru.Cache[linkID, expiring[catalog.Record]]
	inline  *lru.Cache[linkID, expiring[[]byte]]
	aliases *lru.Cache[digest.Digest, expiring[digest.Digest]]

	// A read that began before a deletion must not put back what that took
	// away.
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

// newCache returns nil if there is to be none.
func newCache(cfg CacheConfig, inlineMax int64) (*cache, error) {
	if cfg.Entries < 1 || cfg.TTL < 1 {
		return nil, nil //nolint:nilnil // a nil cache works, and knows nothing
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

// now is the epoch in which a read begins.
func (c *cache) now() uint64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// link is what is known of a link. Content is kept of fewer blobs than links
// are: if it is wanted and isn't there, nothing is known.
func (c *cache) link(id linkID, wantRaw bool) (catalog.Record, []byte, bool) {
	if c == nil {
		return catalog.Record{}, nil, false
	}
	now := time.Now()
	r, ok := c.links.Get(id)
	if !ok || now.After(r.until) {
		return catalog.Record{}, nil, false
	}
	if !wantRaw || r.value.Data != "" || r.value.Size == 0 {
		return r.value, nil, true
	}
	raw, ok := c.inline.Get(id)
	if !ok || now.After(raw.until) {
		return catalog.Record{}, nil, false
	}
	return r.value, raw.value, true
}

// putLink remembers a link, unless something was deleted since the read began.
func (c *cache) putLink(began uint64, id linkID, r catalog.Record, raw []byte) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if began != c.epoch {
		return
	}
	until := time.Now().Add(c.ttl)
	c.links.Add(id, expiring[catalog.Record]{r, until})
	if r.Data == "" {
		c.inline.Add(id, expiring[[]byte]{raw, until})
	}
}

// forget a link that was deleted.
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

func (c *cache) alias(d digest.Digest) (digest.Digest, bool) {
	if c == nil {
		return "", false
	}
	a, ok := c.aliases.Get(d)
	return a.value, ok && !time.Now().After(a.until)
}

// putAlias needs no epoch: what an alias says stays true.
func (c *cache) putAlias(d, canonical digest.Digest) {
	if c != nil {
		c.aliases.Add(d, expiring[digest.Digest]{canonical, time.Now().Add(c.ttl)})
	}
}
