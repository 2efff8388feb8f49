package azure

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/berthhq/berth/drivers"
)

// List returns the objects in the order of their keys, which is the service's
// order, in pages of at most 5,000. If the service version supports startFrom,
// which includes the key itself, it requests only the keys from after on.
// Otherwise it requests all and skips those up to after.
func (s *objectStore) List(ctx context.Context, prefix, after string) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		name := s.blobName(prefix)
		opts := &container.ListBlobsFlatOptions{Prefix: &name, MaxResults: s.pageSize}
		if after > prefix && s.version >= startFromVersion {
			from := s.blobName(after)
			opts.StartFrom = &from
		}
		pager := s.container.NewListBlobsFlatPager(opts)
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err == nil && page.Segment == nil {
				err = errors.New("the service returned a page without a list")
			}
			if err != nil {
				yield(drivers.Object{}, s.failed(ctx, "list", prefix, err))
				return
			}
			for _, item := range page.Segment.BlobItems {
				o, err := s.item(item)
				if err != nil {
					yield(drivers.Object{}, failed("list", prefix, err))
					return
				}
				if o.Key > after && !strings.HasPrefix(o.Key, drivers.PartsPrefix) && !yield(o, nil) {
					return
				}
			}
		}
	}
}

// item returns the object that an item of a listing describes.
func (s *objectStore) item(item *container.BlobItem) (drivers.Object, error) {
	if item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil {
		return drivers.Object{}, errors.New("the service listed a blob without a name or a size")
	}
	key := strings.TrimPrefix(*item.Name, s.prefix)
	return object(key, *item.Properties.ContentLength, nil, item.Properties.LastModified), nil
}
