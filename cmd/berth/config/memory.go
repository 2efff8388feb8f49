package config

const (
	// baseMemory is the memory that berth needs besides the buffers of uploads and of
	// manifests and the caches, in bytes: connections, requests, parts of listings, and room for
	// garbage between two runs of the garbage collector.
	baseMemory = 128 << 20

	// cacheEntry is the approximate size of an entry of the cache, in bytes.
	cacheEntry = 1 << 10
)

// MemoryLimit returns the maximum memory that a process with this configuration
// needs, in bytes.
func (c *Config) MemoryLimit() int64 {
	m := &c.Blobs.Manifests
	return c.Blobs.Upload.Memory + int64(max(c.Blobs.Cache.Entries, 0))*cacheEntry + m.Memory + max(m.CacheMemory, 0) + baseMemory
}
