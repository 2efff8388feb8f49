package blobstore

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers/deadline"
)

// inlineBudget limits the bytes of inline blobs that are kept in memory.
const inlineBudget = 32 << 20

// cache holds links, aliases and manifests that were read or written. It holds positive answers
// only, and none that the collector has condemned: for everything else the store is
// asked. A nil cache is always empty.
//
// It serves reads. The one write that relies on it is a push of a manifest, whose
// references may be known links; see known.
type cache struct {
	ttl     time.Duration
	links   *lru.Cache[linkID, aging[cachedLink]]
	inline  *lru.Cache[linkID, aging[[]byte]]
	aliases *lru.Cache[digest.Digest, aging[digest.Digest]]

	manifests *manifestCache

	counts [cacheKinds]cacheCount

	// epoch is the number of deletions. A read or a write that started before a
	// deletion must not put the deleted link or manifest back.
	mu    sync.Mutex
	epoch uint64
}

type linkID struct {
	repository string
	digest     digest.Digest // canonical
}

type cachedLink = catalog.Record

// aging is a value with its age. The age starts before the request to the store, so
// the value was true at that age or later.
type aging[T any] struct {
	value T
	age   deadline.Deadline
}

func (a aging[T]) fresh() bool { return a.age.Check() == nil }

// moment is when a read or a write of the store started.
type moment struct {
	age   deadline.Deadline
	epoch uint64
}

// newCache returns nil if the cache is turned off.
func newCache(config Config) (*cache, error) {
	cfg := config.Cache
	if cfg.Entries < 1 || cfg.TTL < 1 {
		return nil, nil //nolint:nilnil // a nil cache is always empty
	}
	c := &cache{ttl: cfg.TTL}
	var err error
	if c.links, err = lru.New[linkID, aging[cachedLink]](cfg.Entries); err != nil {
		return nil, err
	}
	if c.inline, err = lru.New[linkID, aging[[]byte]](min(cfg.Entries, inlineBudget/int(max(config.InlineMax, 1)))); err != nil {
		return nil, err
	}
	if c.aliases, err = lru.New[digest.Digest, aging[digest.Digest]](cfg.Entries); err != nil {
		return nil, err
	}
	c.manifests, err = newManifestCache(config.Manifests.CacheMemory)
	return c, err
}

// start returns the moment of a read or a write that starts now. What it finds or
// stores is put into the cache as of this moment.
func (c *cache) start() moment {
	if c == nil {
		return moment{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return moment{deadline.New(c.ttl), c.epoch}
}

// link returns a link, and reports whether it is in the cache. If wantInline is
// set, the link of an inline blob is in the cache only together with the blob's
// bytes, of which the cache holds fewer than links.
func (c *cache) link(id linkID, wantInline bool) (link cachedLink, inline []byte, ok bool) {
	if c == nil {
		return cachedLink{}, nil, false
	}
	l, ok := c.links.Get(id)
	if !ok || !l.fresh() {
		return cachedLink{}, nil, false
	}
	if !wantInline || l.value.Data != "" || l.value.Size == 0 {
		return l.value, nil, true
	}
	p, ok := c.inline.Get(id)
	if !ok || !p.fresh() {
		return cachedLink{}, nil, false
	}
	return l.value, p.value, true
}

// known reports whether this process has read or written the link as good within the
// last ttl: it was neither damaged nor condemned then. A push of a manifest counts
// such a link as here. That is safe although it decides a write, because the collector
// waits for longer than the ttl and a request before it removes what it has condemned.
// A deletion by another process within that time counts as later than the push.
func (c *cache) known(id linkID) bool {
	_, _, ok := c.link(id, false)
	return ok
}

// putLink adds a link that was read or written since that moment, unless it is not
// good, or a link was deleted meanwhile.
func (c *cache) putLink(since moment, id linkID, link catalog.Record, inline []byte) {
	if c == nil || link.Condemned || link.State == catalog.Damaged {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if since.epoch != c.epoch {
		return
	}
	c.links.Add(id, aging[cachedLink]{link, since.age})
	if link.Data == "" {
		c.inline.Add(id, aging[[]byte]{inline, since.age})
	}
}

// forget removes a link that was deleted or replaced. A deletion calls it before it
// returns.
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
	return a.value, ok && a.fresh()
}

// putAlias adds an alias that was read since that moment, unless it is condemned. It
// needs no epoch, because an alias stays true.
func (c *cache) putAlias(since moment, d digest.Digest, alias catalog.Alias) {
	if c != nil && !alias.Condemned {
		c.aliases.Add(d, aging[digest.Digest]{alias.Digest, since.age})
	}
}
