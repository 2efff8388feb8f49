package azure

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/berthhq/berth/drivers"
)

// objectStore makes blobs and reads them.
type objectStore struct {
	*store
}

// Create stores body in a new blob. It returns ErrExists if there is one.
func (s *objectStore) Create(ctx context.Context, key string, body drivers.Body) (_ drivers.Object, err error) {
	defer func() { err = s.failed(ctx, "create", key, err) }()
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, err
	}
	return s.create(ctx, key, body)
}

// Replace replaces the version with this tag by body. It returns ErrChanged if
// the blob has another tag or is gone.
func (s *objectStore) Replace(ctx context.Context, key, tag string, body drivers.Body) (_ drivers.Object, err error) {
	defer func() { err = s.failed(ctx, "replace", key, err) }()
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, err
	}
	return s.replace(ctx, key, tag, body)
}

// DeleteIf deletes the version with this tag. It returns nil if the blob is
// gone, and ErrChanged if it has another tag.
func (s *objectStore) DeleteIf(ctx context.Context, key, tag string) (err error) {
	defer func() { err = s.failed(ctx, "delete", key, err) }()
	if err := check(ctx, key); err != nil {
		return err
	}
	return s.deleteIf(ctx, key, tag)
}

// Delete deletes the objects in batches, and returns the first error:
// https://learn.microsoft.com/rest/api/storageservices/blob-batch.
func (s *objectStore) Delete(ctx context.Context, keys ...string) error {
	if err := check(ctx, keys...); err != nil {
		return failed("delete", fmt.Sprintf("%d keys", len(keys)), err)
	}
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	if len(keys) == 1 {
		_, err := s.blob(keys[0]).Delete(ctx, &blob.DeleteOptions{DeleteSnapshots: to.Ptr(blob.DeleteSnapshotsOptionTypeInclude)})
		if bloberror.HasCode(err, bloberror.BlobNotFound) {
			err = nil
		}
		return s.failed(ctx, "delete", keys[0], err)
	}
	for batch := range slices.Chunk(keys, maxBatch) {
		if err := s.deleteBatch(ctx, batch); err != nil {
			return s.failed(ctx, "delete", fmt.Sprintf("%s and %d more", batch[0], len(batch)-1), err)
		}
	}
	return nil
}

// deleteBatch deletes at most maxBatch objects in one request.
func (s *objectStore) deleteBatch(ctx context.Context, keys []string) error {
	batch, err := s.container.NewBatchBuilder()
	if err != nil {
		return err
	}
	for _, key := range keys {
		err := batch.Delete(s.blobName(key), &container.BatchDeleteOptions{
			DeleteOptions: blob.DeleteOptions{DeleteSnapshots: to.Ptr(blob.DeleteSnapshotsOptionTypeInclude)},
		})
		if err != nil {
			return err
		}
	}
	resp, err := s.container.SubmitBatch(ctx, batch, nil)
	if err != nil {
		return err
	}
	for _, one := range resp.Responses {
		if one.Error != nil && !bloberror.HasCode(one.Error, bloberror.BlobNotFound) {
			return one.Error
		}
	}
	return nil
}

// Open returns a reader for a range of the object. It returns ErrRange if the
// range starts past the end.
func (s *objectStore) Open(ctx context.Context, key string, off, n int64) (_ io.ReadCloser, _ drivers.Object, err error) {
	defer func() { err = s.failed(ctx, "open", key, err) }()
	if err := check(ctx, key); err != nil {
		return nil, drivers.Object{}, err
	}
	if off < 0 || n == 0 || n < -1 {
		return nil, drivers.Object{}, fmt.Errorf("range of %d bytes from %d", n, off)
	}
	return s.open(ctx, key, off, n)
}

// Stat returns the object's size, tag and time.
func (s *objectStore) Stat(ctx context.Context, key string) (_ drivers.Object, err error) {
	defer func() { err = s.failed(ctx, "stat", key, err) }()
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, err
	}
	return s.stat(ctx, key)
}
