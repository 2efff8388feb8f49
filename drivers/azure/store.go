package azure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
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

// store sends requests to a container. Its methods take keys, and pass names of
// blobs to the SDK. They return the SDK's errors.
type store struct {
	*account
	container *container.Client
	prefix    string // of the names of blobs
	tier      *blob.AccessTier
	scope     *blob.CPKScopeInfo
	pageSize  int // the most blobs in a page of a listing
}

// failed explains and wraps the error of an operation.
func (s *store) failed(ctx context.Context, op, key string, err error) error {
	return failed(op, key, s.explain(ctx, err))
}

// blobName returns the name of the blob that holds a key.
func (s *store) blobName(key string) string { return s.prefix + key }

// create stores body in a new blob. It returns ErrExists if there is one.
func (s *store) create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	return s.put(ctx, key, body, &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}, drivers.ErrExists)
}

// replace replaces the version with this tag by body. It returns ErrChanged if
// the blob has another tag or is gone.
func (s *store) replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if !isETag(tag) {
		return drivers.Object{}, drivers.ErrChanged
	}
	return s.put(ctx, key, body, ifMatch(tag), drivers.ErrChanged)
}

// put stores body if the condition holds, and returns otherwise if it does not.
func (s *store) put(ctx context.Context, key string, body drivers.Body, condition *blob.ModifiedAccessConditions, otherwise error) (drivers.Object, error) {
	write, err := send(body)
	if err != nil {
		return drivers.Object{}, err
	}
	defer write.end()
	resp, err := s.blob(key).Upload(write.in(ctx), write.announce(), &blockblob.UploadOptions{
		AccessConditions:        &blob.AccessConditions{ModifiedAccessConditions: condition},
		TransactionalValidation: write.checksum(),
		Tier:                    s.tierOf(key),
		CPKScopeInfo:            s.scope,
	})
	switch {
	case err == nil:
		return object(key, body.Size, resp.ETag, resp.LastModified), nil
	case !conditionFailed(err):
		return drivers.Object{}, err
	case !write.repeated():
		return drivers.Object{}, otherwise
	default:
		return s.ownWrite(ctx, key, body)
	}
}

// errUnknown reports that the outcome of a write is unknown.
var errUnknown = errors.New("refused after it was repeated: an earlier try may have succeeded")

// ownWrite returns the object if it has this body. Every body contains a nonce
// or belongs to a key that is used once, so an earlier try of the same write
// has stored it. If the object has another body, the outcome is unknown,
// because the write's own body may have been replaced already.
func (s *store) ownWrite(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	r, o, err := s.open(ctx, key, 0, -1)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("%w, and reading back failed (%v)", errUnknown, err) //nolint:errorlint // err is no claim about the write
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

// deleteIf deletes the version with this tag. It returns nil if the blob is
// gone, and ErrChanged if it has another tag.
func (s *store) deleteIf(ctx context.Context, key, tag string) error {
	write := new(sending)
	if isETag(tag) {
		_, err := s.blob(key).Delete(write.in(ctx), &blob.DeleteOptions{
			DeleteSnapshots:  to.Ptr(blob.DeleteSnapshotsOptionTypeInclude),
			AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: ifMatch(tag)},
		})
		if !conditionFailed(err) {
			return err
		}
	}
	// An absent blob may fail the condition, too.
	_, err := s.stat(ctx, key)
	switch {
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		return nil
	case err != nil:
		return err
	case write.repeated():
		return errUnknown
	default:
		return drivers.ErrChanged
	}
}

// open returns a reader of n bytes from off, or to the end if n is -1.
func (s *store) open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	var opts blob.DownloadStreamOptions
	opts.Range.Offset = off
	if n > 0 && n <= math.MaxInt64-off {
		opts.Range.Count = n
	}
	resp, err := s.blob(key).DownloadStream(ctx, &opts)
	if off == 0 && n > 0 && bloberror.HasCode(err, bloberror.InvalidRange) {
		return s.open(ctx, key, 0, -1) // of an empty blob, which berth never writes
	}
	if err != nil {
		return nil, drivers.Object{}, err
	}
	if resp.Body == nil { // the SDK's result for a 304
		return nil, drivers.Object{}, errors.New("the service returned no body")
	}
	var size int64
	switch {
	case resp.ContentRange != nil:
		_, total, _ := strings.Cut(*resp.ContentRange, "/")
		size, err = strconv.ParseInt(total, 10, 64)
	case resp.ContentLength != nil:
		size = *resp.ContentLength
	default:
		err = errors.New("the service returned no size")
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

// stat returns the blob's description.
func (s *store) stat(ctx context.Context, key string) (drivers.Object, error) {
	resp, err := s.blob(key).GetProperties(ctx, nil)
	if err != nil {
		return drivers.Object{}, err
	}
	if resp.ContentLength == nil {
		return drivers.Object{}, errors.New("the service returned no size")
	}
	return object(key, *resp.ContentLength, resp.ETag, resp.LastModified), nil
}

// blob returns the SDK's client of the blob that holds a key.
func (s *store) blob(key string) *blockblob.Client {
	return s.container.NewBlockBlobClient(s.blobName(key))
}

// tierOf returns the access tier of a new blob, or nil for the account's
// default.
func (s *store) tierOf(key string) *blob.AccessTier {
	if strings.HasPrefix(key, drivers.BulkPrefix) || strings.HasPrefix(key, probePrefix) {
		return s.tier
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

// isETag reports whether the service can have returned the tag.
func isETag(tag string) bool { return etag.MatchString(tag) }

// ifMatch returns the condition that the blob has this tag.
func ifMatch(tag string) *blob.ModifiedAccessConditions {
	return &blob.ModifiedAccessConditions{IfMatch: new(azcore.ETag(tag))}
}

// conditionFailed reports whether a write was refused because of its condition.
// An absent blob fails If-Match with any of these codes.
func conditionFailed(err error) bool {
	return bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet,
		bloberror.TargetConditionNotMet, bloberror.BlobNotFound)
}
