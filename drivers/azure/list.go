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
func (b *bucket) List(ctx context.Context, prefix, after string) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		name := b.blobName(prefix)
		opts := &container.ListBlobsFlatOptions{Prefix: &name, MaxResults: b.pageSize}
		if after > prefix && b.version >= startFromVersion {
			from := b.blobName(after)
			opts.StartFrom = &from
		}
		pager := b.container.NewListBlobsFlatPager(opts)
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err == nil && page.Segment == nil {
				err = errors.New("the page is empty of everything")
			}
			if err != nil {
				yield(drivers.Object{}, failed("list", prefix, b.explain(ctx, err)))
				return
			}
			for _, item := range page.Segment.BlobItems {
				o, err := b.item(item)
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
func (b *bucket) item(item *container.BlobItem) (drivers.Object, error) {
	if item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil {
		return drivers.Object{}, errors.New("the service does not tell a name, or a size")
	}
	key := strings.TrimPrefix(*item.Name, b.prefix)
	return object(key, *item.Properties.ContentLength, nil, item.Properties.LastModified), nil
}
