package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// maxTokens is the number of verified tokens that are remembered. With the longest claims
// they take some 60 MB, and usually less than 10 MB.
const maxTokens = 4096

// cache remembers what secrets prove until a point in time. It has no secrets: its keys
// are made with a key that only this process has.
type cache[V any] struct {
	entries *lru.Cache[cacheKey, cached[V]]
	macs    sync.Pool // of hash.Hash
}

type cacheKey [sha256.Size]byte

type cached[V any] struct {
	value V
	until time.Time
}

func newCache[V any](entries int) (*cache[V], error) {
	secret := make([]byte, sha256.Size)
	rand.Read(secret)
	all, err := lru.New[cacheKey, cached[V]](entries)
	c := &cache[V]{entries: all}
	c.macs.New = func() any { return hmac.New(sha256.New, secret) }
	return c, err
}

// key returns the key of a list of strings. Different lists have different keys.
func (c *cache[V]) key(list ...string) (k cacheKey) {
	mac, _ := c.macs.Get().(hash.Hash)
	defer c.macs.Put(mac)
	mac.Reset()
	var length [8]byte
	for _, s := range list {
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		mac.Write(length[:])
		mac.Write([]byte(s))
	}
	mac.Sum(k[:0])
	return k
}

func (c *cache[V]) get(k cacheKey) (value V, ok bool) {
	e, ok := c.entries.Get(k)
	if ok && !time.Now().Before(e.until) {
		c.entries.Remove(k)
		return value, false
	}
	return e.value, ok
}

// add remembers a value until a point in time.
func (c *cache[V]) add(k cacheKey, value V, until time.Time) {
	c.entries.Add(k, cached[V]{value, until})
}
