package azure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/berthhq/berth/drivers"
)

// Create stores body in a new blob. It returns ErrExists if there is one.
func (b *bucket) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, failed("create", key, err)
	}
	o, err := b.create(ctx, key, body)
	if err != nil {
		return drivers.Object{}, failed("create", key, b.explain(ctx, err))
	}
	return o, nil
}

func (b *bucket) create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	return b.put(ctx, key, body, &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}, drivers.ErrExists)
}

// Replace replaces the version with this tag by body. It returns ErrChanged if
// the blob has another tag, or is gone.
func (b *bucket) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, failed("replace", key, err)
	}
	o, err := b.replace(ctx, key, tag, body)
	if err != nil {
		return drivers.Object{}, failed("replace", key, b.explain(ctx, err))
	}
	return o, nil
}

func (b *bucket) replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if !isETag(tag) {
		return drivers.Object{}, drivers.ErrChanged
	}
	return b.put(ctx, key, body, ifMatch(tag), drivers.ErrChanged)
}

// put stores body if the condition holds, and returns otherwise if it does not.
func (b *bucket) put(ctx context.Context, key string, body drivers.Body, condition *blob.ModifiedAccessConditions, otherwise error) (drivers.Object, error) {
	s, err := send(body)
	if err != nil {
		return drivers.Object{}, err
	}
	defer s.end()
	resp, err := b.blob(key).Upload(s.in(ctx), s.announce(), &blockblob.UploadOptions{
		AccessConditions:        &blob.AccessConditions{ModifiedAccessConditions: condition},
		TransactionalValidation: s.checksum(),
		Tier:                    b.tierOf(key),
		CPKScopeInfo:            b.scope,
	})
	switch {
	case err == nil:
		return object(key, body.Size, resp.ETag, resp.LastModified), nil
	case !conditionFailed(err):
		return drivers.Object{}, err
	case !s.repeated():
		return drivers.Object{}, otherwise
	default:
		return b.ownWrite(ctx, key, body)
	}
}

// ownWrite returns the object if it has this body. Every body contains a nonce
// or belongs to a key that is used once, so an earlier try of the same write
// has stored it. If the object has another body, the outcome is unknown,
// because the write's own body may have been replaced already.
func (b *bucket) ownWrite(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	errUnknown := errors.New("refused after it was repeated: an earlier try may have succeeded")
	r, o, err := b.open(ctx, key, 0, -1)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("%w, and reading back failed (%v)", errUnknown, err) //nolint:errorlint // says nothing of the write
	}
	defer r.Close()
	if o.Size != body.Size {
		return drivers.Object{}, errUnknown
	}
	for _, segment := range body.Segments {
		got := make([]byte, len(segment))
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, segment) {
			return drivers.Object{}, errUnknown
		}
	}
	return o, nil
}

// DeleteIf deletes the version with this tag. It returns nil if the blob is
// gone, ErrChanged if it has another tag.
func (b *bucket) DeleteIf(ctx context.Context, key, tag string) error {
	if err := check(ctx, key); err != nil {
		return failed("delete", key, err)
	}
	return failed("delete", key, b.explain(ctx, b.deleteIf(ctx, key, tag)))
}

func (b *bucket) deleteIf(ctx context.Context, key, tag string) error {
	s := new(sending)
	if isETag(tag) {
		_, err := b.blob(key).Delete(s.in(ctx), &blob.DeleteOptions{
			DeleteSnapshots:  to.Ptr(blob.DeleteSnapshotsOptionTypeInclude),
			AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: ifMatch(tag)},
		})
		if !conditionFailed(err) {
			return err
		}
	}
	// An absent blob may fail the condition, too.
	_, err := b.stat(ctx, key)
	switch {
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		return nil
	case err != nil:
		return err
	case s.repeated():
		return errors.New("refused after it was repeated: an earlier try may have succeeded")
	default:
		return drivers.ErrChanged
	}
}

// Delete deletes the objects in batches, and returns the first error:
// https://learn.microsoft.com/rest/api/storageservices/blob-batch.
func (b *bucket) Delete(ctx context.Context, keys ...string) error {
	if err := check(ctx, keys...); err != nil {
		return failed("delete", fmt.Sprintf("%d keys", len(keys)), err)
	}
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	if len(keys) == 1 {
		_, err := b.blob(keys[0]).Delete(ctx, &blob.DeleteOptions{DeleteSnapshots: to.Ptr(blob.DeleteSnapshotsOptionTypeInclude)})
		if bloberror.HasCode(err, bloberror.BlobNotFound) {
			err = nil
		}
		return failed("delete", keys[0], b.explain(ctx, err))
	}
	for batch := range slices.Chunk(keys, maxBatch) {
		if err := b.deleteBatch(ctx, batch); err != nil {
			return failed("delete", fmt.Sprintf("%s and %d more", batch[0], len(batch)-1), b.explain(ctx, err))
		}
	}
	return nil
}

// deleteBatch deletes at most maxBatch objects in one request.
func (b *bucket) deleteBatch(ctx context.Context, keys []string) error {
	batch, err := b.container.NewBatchBuilder()
	if err != nil {
		return err
	}
	for _, key := range keys {
		err := batch.Delete(b.blobName(key), &container.BatchDeleteOptions{
			DeleteOptions: blob.DeleteOptions{DeleteSnapshots: to.Ptr(blob.DeleteSnapshotsOptionTypeInclude)},
		})
		if err != nil {
			return err
		}
	}
	resp, err := b.container.SubmitBatch(ctx, batch, nil)
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
func (b *bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	err := check(ctx, key)
	if err == nil && (off < 0 || n == 0 || n < -1) {
		err = fmt.Errorf("range of %d bytes from %d", n, off)
	}
	if err != nil {
		return nil, drivers.Object{}, failed("open", key, err)
	}
	r, o, err := b.open(ctx, key, off, n)
	if err != nil {
		return nil, drivers.Object{}, failed("open", key, b.explain(ctx, err))
	}
	return r, o, nil
}

func (b *bucket) open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	var opts blob.DownloadStreamOptions
	opts.Range.Offset = off
	if n > 0 && n <= math.MaxInt64-off {
		opts.Range.Count = n
	}
	resp, err := b.blob(key).DownloadStream(ctx, &opts)
	if off == 0 && n > 0 && bloberror.HasCode(err, bloberror.InvalidRange) {
		return b.open(ctx, key, 0, -1) // of an empty blob, which berth never writes
	}
	if err != nil {
		return nil, drivers.Object{}, err
	}
	if resp.Body == nil { // the SDK's result for a 304
		return nil, drivers.Object{}, errors.New("the service sent no body")
	}
	var size int64
	switch {
	case resp.ContentRange != nil:
		_, total, _ := strings.Cut(*resp.ContentRange, "/")
		size, err = strconv.ParseInt(total, 10, 64)
	case resp.ContentLength != nil:
		size = *resp.ContentLength
	default:
		err = errors.New("the service does not tell the size")
	}
	if err == nil && off > 0 && off >= size {
		err = drivers.ErrRange // not every server refuses such a range
	}
	if err != nil {
		resp.Body.Close()
		return nil, drivers.Object{}, err
	}
	return drivers.BusyOnError(resp.Body), object(key, size, resp.ETag, resp.LastModified), nil
}

// Stat returns the object's size, tag and time.
func (b *bucket) Stat(ctx context.Context, key string) (drivers.Object, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, failed("stat", key, err)
	}
	o, err := b.stat(ctx, key)
	if err != nil {
		return drivers.Object{}, failed("stat", key, b.explain(ctx, err))
	}
	return o, nil
}

func (b *bucket) stat(ctx context.Context, key string) (drivers.Object, error) {
	resp, err := b.blob(key).GetProperties(ctx, nil)
	if err != nil {
		return drivers.Object{}, err
	}
	if resp.ContentLength == nil {
		return drivers.Object{}, errors.New("the service does not tell the size")
	}
	return object(key, *resp.ContentLength, resp.ETag, resp.LastModified), nil
}

func (b *bucket) blob(key string) *blockblob.Client {
	return b.container.NewBlockBlobClient(b.blobName(key))
}

// tierOf returns the access tier of a new blob, or nil for the account's
// default.
func (b *bucket) tierOf(key string) *blob.AccessTier {
	if strings.HasPrefix(key, drivers.BulkPrefix) || strings.HasPrefix(key, probePrefix) {
		return b.tier
	}
	return nil
}

// object returns the object that an answer describes.
func object(key string, size int64, tag *azcore.ETag, modified *time.Time) drivers.Object {
	o := drivers.Object{Key: key, Size: size}
	if tag != nil {
		o.Tag = string(*tag)
	}
	if modified != nil {
		o.Modified = modified.UTC()
	}
	return o
}

// etag matches the ETags of the service: strong, quoted, and never "*".
var etag = regexp.MustCompile(`^"[0-9A-Za-z]+"$`)

func isETag(tag string) bool { return etag.MatchString(tag) }

func ifMatch(tag string) *blob.ModifiedAccessConditions {
	return &blob.ModifiedAccessConditions{IfMatch: new(azcore.ETag(tag))}
}

// conditionFailed reports whether a write was refused because of its condition.
// An absent blob fails If-Match with any of these codes.
func conditionFailed(err error) bool {
	return bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet,
		bloberror.TargetConditionNotMet, bloberror.BlobNotFound)
}
