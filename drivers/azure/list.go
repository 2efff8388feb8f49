package azure

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/berthhq/berth/drivers"
)

// maxResults is the most blobs in one page of a listing.
// https://learn.microsoft.com/rest/api/storageservices/list-blobs
const maxResults = 5000

// List returns the objects in the order of their keys, which is the service's
// order. If the service version supports startFrom,
// which includes the key itself, it requests only the keys from after on.
// Otherwise it requests all and skips those up to after.
func (s *objectStore) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		opts := container.ListBlobsFlatOptions{Prefix: new(s.blobName(prefix))}
		switch {
		case after <= prefix:
		case s.version < startFromVersion:
			want = 0 // to reach the keys that the caller wants in few pages
		default:
			opts.StartFrom = new(s.blobName(after))
			if want > 0 {
				want++ // the first blob may be after itself
			}
		}
		for listed := 0; ; {
			opts.MaxResults = new(int32(drivers.PageSize(want, listed, s.pageSize)))
			page, err := s.container.NewListBlobsFlatPager(&opts).NextPage(ctx)
			var objects []drivers.Object
			if err == nil {
				objects, err = s.objects(page)
			}
			if err != nil {
				yield(drivers.Object{}, s.failed(ctx, "list", prefix, err))
				return
			}
			listed += len(objects)
			for _, o := range objects {
				if o.Key > after && !strings.HasPrefix(o.Key, drivers.PartsPrefix) && !yield(o, nil) {
					return
				}
			}
			if page.NextMarker == nil || *page.NextMarker == "" {
				return
			}
			opts.Marker = page.NextMarker
		}
	}
}

// objects returns the objects of a page.
func (s *objectStore) objects(page container.ListBlobsFlatResponse) ([]drivers.Object, error) {
	if page.Segment == nil {
		return nil, errors.New("the service returned a page without a list")
	}
	objects := make([]drivers.Object, 0, len(page.Segment.BlobItems))
	for _, item := range page.Segment.BlobItems {
		o, err := s.item(item)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// item returns the object that an item of a listing describes.
func (s *objectStore) item(item *container.BlobItem) (drivers.Object, error) {
	if item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil {
		return drivers.Object{}, errors.New("the service listed a blob without a name or a size")
	}
	key := strings.TrimPrefix(*item.Name, s.prefix)
	return object(key, *item.Properties.ContentLength, nil, item.Properties.LastModified), nil
}
