// Package usage adds up the bytes of repositories.
//
// It reads every link of the bucket once, in the order of their digests, so that all
// links of a blob are next to each other. What it holds in memory grows with the number of
// repositories, and not with the number of blobs or manifests. The numbers are exact, of a
// bucket that does not change while it is read.
package usage

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/berthhq/berth/blobstore"
)

// Repository is what one repository has.
type Repository struct {
	Name      string `json:"repository"`
	Blobs     int64  `json:"blobs"`
	Manifests int64  `json:"manifests"`

	// Exclusive is the bytes that no other repository has: of blobs, and of manifests,
	// which are never shared. Shared is the bytes of blobs that other repositories have
	// too.
	Exclusive int64 `json:"exclusive"`
	Shared    int64 `json:"shared"`
}

// Total returns the bytes of everything that the repository has.
func (r Repository) Total() int64 { return r.Exclusive + r.Shared }

// Bucket is what a bucket has.
type Bucket struct {
	Blobs     int64 `json:"blobs"`
	Manifests int64 `json:"manifests"`
	Bytes     int64 `json:"bytes"` // each blob once

	// Repositories are sorted by what they would free alone: by Exclusive, the largest
	// first, and then by name.
	Repositories []Repository `json:"repositories"`
}

// Read adds up a bucket. It calls progress for each blob and each manifest. Blobs that no
// repository has are not counted; the collector removes them.
func Read(ctx context.Context, store *blobstore.Store, progress func()) (Bucket, error) {
	var total Bucket
	all := map[string]*Repository{}
	repository := func(name string) *Repository {
		if all[name] == nil {
			all[name] = &Repository{Name: name}
		}
		return all[name]
	}
	for blob, err := range store.Linked(ctx) {
		if err != nil {
			return Bucket{}, err
		}
		progress()
		total.Blobs++
		total.Bytes += blob.Size
		for _, name := range blob.Repositories {
			r := repository(name)
			r.Blobs++
			if len(blob.Repositories) == 1 {
				r.Exclusive += blob.Size
			} else {
				r.Shared += blob.Size
			}
		}
	}
	for named, err := range store.Repositories(ctx, "", 0) {
		if err != nil {
			return Bucket{}, err
		}
		r := repository(named.Name())
		for m, err := range store.Repository(named).Manifests().All(ctx) {
			if err != nil {
				return Bucket{}, err
			}
			progress()
			r.Manifests++
			r.Exclusive += m.Size
			total.Manifests++
			total.Bytes += m.Size
		}
	}
	for _, r := range slices.SortedFunc(maps.Values(all), compare) {
		total.Repositories = append(total.Repositories, *r)
	}
	return total, nil
}

func compare(a, b *Repository) int {
	return cmp.Or(cmp.Compare(b.Exclusive, a.Exclusive), cmp.Compare(a.Name, b.Name))
}
