package telemetry

import (
	"maps"
	"slices"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/upload/budget"
)

// WatchStore adds metrics of the memory and of the caches of a store.
func (t *Telemetry) WatchStore(usage func() blobstore.Usage, uploadMemory, manifestMemory int64) {
	uploads := func(of func(budget.Usage) float64) func() float64 {
		return func() float64 { return of(usage().Uploads) }
	}
	t.Gauge("berth_uploads_in_progress", "Requests that are receiving a part of an upload.",
		uploads(func(u budget.Usage) float64 { return float64(u.Clients) }))
	t.Gauge("berth_uploads_waiting", "Requests of uploads that wait for memory.",
		uploads(func(u budget.Usage) float64 { return float64(u.Waiting) }))
	t.Gauge("berth_upload_memory_bytes", "Memory that uploads hold.",
		uploads(func(u budget.Usage) float64 { return float64(u.Held) * budget.SegmentSize }))
	t.Gauge("berth_upload_memory_limit_bytes", "The value of upload.memory.", func() float64 { return float64(uploadMemory) })
	t.Gauge("berth_manifest_memory_bytes", "Memory that manifests hold which are being pushed.",
		func() float64 { return float64(usage().Manifests.Held) * budget.SegmentSize })
	t.Gauge("berth_manifest_memory_limit_bytes", "The value of manifests.memory.", func() float64 { return float64(manifestMemory) })
	t.Gauge("berth_manifests_waiting", "Pushes of manifests that wait for memory.",
		func() float64 { return float64(usage().Manifests.Waiting) })

	caches := slices.Sorted(maps.Keys(usage().Caches))
	t.Counter("berth_cache_hits_total", "Lookups of reads that the cache has answered.", "cache", caches,
		func(cache string) float64 { return float64(usage().Caches[cache].Hits) })
	t.Counter("berth_cache_misses_total", "Lookups of reads that the store had to answer.", "cache", caches,
		func(cache string) float64 { return float64(usage().Caches[cache].Misses) })
}
