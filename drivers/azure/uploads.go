package azure

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/berthhq/berth/drivers"
)

// blockID identifies the upload, the part and the attempt that a block belongs
// to. The package comment describes its form.
type blockID [2 + uploadSize + attemptSize]byte

const (
	uploadSize  = 8
	attemptSize = 11
)

func newBlockID(upload []byte, number int) blockID {
	var id blockID
	binary.BigEndian.PutUint16(id[:], uint16(number)) // at most maxBlocks
	copy(id[2:], upload)
	rand.Read(id[2+uploadSize:])
	return id
}

func (id blockID) String() string { return base64.StdEncoding.EncodeToString(id[:]) }

// names reports whether tag is the id of a block of this part.
func names(tag string, upload []byte, number int) bool {
	id, err := base64.StdEncoding.Strict().DecodeString(tag)
	return err == nil && len(id) == len(blockID{}) &&
		int(binary.BigEndian.Uint16(id)) == number && string(id[2:2+uploadSize]) == string(upload)
}

// uploadID returns the id of an upload in bytes. It returns ErrNotFound if the
// id is not one of this driver's.
func uploadID(u drivers.Upload) ([]byte, error) {
	id, err := hex.DecodeString(u.ID)
	if err != nil || len(id) != uploadSize {
		return nil, fmt.Errorf("upload id %.40q: %w", u.ID, drivers.ErrNotFound)
	}
	return id, nil
}

// StartUpload returns an upload with a new random id. It makes no request, so
// Started is by this machine's clock.
func (b *bucket) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Upload{}, failed("start upload of", key, err)
	}
	var id [uploadSize]byte
	rand.Read(id[:])
	return drivers.Upload{Key: key, ID: hex.EncodeToString(id[:]), Started: time.Now().UTC().Truncate(time.Second)}, nil
}

// PutPart stages a block. A second call for the same number stages another
// block.
func (b *bucket) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	p, err := b.putPart(ctx, u, number, body)
	if err != nil {
		return drivers.Part{}, failed(fmt.Sprintf("put part %d of", number), u.Key, b.explain(ctx, err))
	}
	return p, nil
}

func (b *bucket) putPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	if err := check(ctx, u.Key); err != nil {
		return drivers.Part{}, err
	}
	upload, err := uploadID(u)
	switch {
	case err != nil:
		return drivers.Part{}, err
	case number < 1 || number > maxBlocks:
		return drivers.Part{}, fmt.Errorf("part number %d, want 1 to %d", number, maxBlocks)
	case body.Size > maxBlock:
		return drivers.Part{}, fmt.Errorf("part of %d bytes, want at most %d", body.Size, int64(maxBlock))
	}
	s, err := send(body)
	if err != nil {
		return drivers.Part{}, err
	}
	defer s.end()
	id := newBlockID(upload, number).String()
	_, err = b.blob(u.Key).StageBlock(s.in(ctx), id, s.announce(), &blockblob.StageBlockOptions{
		TransactionalValidation: s.checksum(), CPKScopeInfo: b.scope,
	})
	if err != nil {
		return drivers.Part{}, err
	}
	return drivers.Part{Number: number, Size: body.Size, Tag: id, CRC32C: body.CRC32C}, nil
}

// StreamPart returns errors.ErrUnsupported: a block is sent with its length and
// its checksum in front.
func (b *bucket) StreamPart(_ context.Context, u drivers.Upload, number int, _ io.Reader) (drivers.Part, error) {
	return drivers.Part{}, failed(fmt.Sprintf("stream part %d of", number), u.Key, errors.ErrUnsupported)
}

// Complete commits the blocks. The service drops the upload's other blocks. If
// the object exists already, Complete returns it. It returns ErrChanged if a
// part is not staged, ErrNotFound if the object has existed and was deleted.
func (b *bucket) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	o, err := b.complete(ctx, u, parts, crc32c)
	if err != nil {
		return drivers.Object{}, failed("complete", u.Key, b.explain(ctx, err))
	}
	return o, nil
}

func (b *bucket) complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	if err := check(ctx, u.Key); err != nil {
		return drivers.Object{}, err
	}
	upload, err := uploadID(u)
	if err != nil {
		return drivers.Object{}, err
	}
	size, err := total(parts, crc32c)
	if err != nil {
		return drivers.Object{}, err
	}
	ids := make([]string, len(parts))
	for i, p := range parts {
		if ids[i] = p.Tag; !names(p.Tag, upload, p.Number) {
			return b.completed(ctx, u.Key, fmt.Errorf("part %d: %w", p.Number, drivers.ErrChanged))
		}
	}
	resp, err := b.blob(u.Key).CommitBlockList(ctx, ids, &blockblob.CommitBlockListOptions{
		AccessConditions: &blob.AccessConditions{
			ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)},
		},
		Tier:         b.tierOf(u.Key),
		CPKScopeInfo: b.scope,
	})
	switch {
	case err == nil:
		return object(u.Key, size, resp.ETag, resp.LastModified), nil
	case bloberror.HasCode(err, bloberror.InvalidBlockList, bloberror.InvalidBlobOrBlock, bloberror.InvalidBlockID):
		return b.completed(ctx, u.Key, fmt.Errorf("a part is not staged: %w", drivers.ErrChanged))
	case conditionFailed(err):
		return b.completed(ctx, u.Key, drivers.ErrNotFound)
	default:
		return drivers.Object{}, err
	}
}

// completed returns the object at the key, which this upload has created if it
// exists. If there is none, it returns otherwise.
func (b *bucket) completed(ctx context.Context, key string, otherwise error) (drivers.Object, error) {
	o, err := b.stat(ctx, key)
	if bloberror.HasCode(err, bloberror.BlobNotFound) {
		err = otherwise
	}
	return o, err
}

// total returns the size of all parts. It returns an error if the parts are not
// in order or do not have the CRC-32C, because the service has no checksum of
// the whole.
func total(parts []drivers.Part, crc32c uint32) (int64, error) {
	if len(parts) == 0 || len(parts) > maxBlocks {
		return 0, fmt.Errorf("%d parts, want 1 to %d", len(parts), maxBlocks)
	}
	var size int64
	var crc uint32
	for i, p := range parts {
		if i > 0 && p.Number <= parts[i-1].Number {
			return 0, fmt.Errorf("part %d comes after part %d", p.Number, parts[i-1].Number)
		}
		size += p.Size
		crc = drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	if crc != crc32c {
		return 0, fmt.Errorf("the parts have CRC-32C %08x, want %08x", crc, crc32c)
	}
	return size, nil
}

// Abort does nothing but check the key: the service drops staged blocks a week
// after the last one was staged.
func (b *bucket) Abort(ctx context.Context, u drivers.Upload) error {
	return failed("abort", u.Key, check(ctx, u.Key))
}

// Uploads returns no uploads, because the service ends them itself.
func (b *bucket) Uploads(context.Context, string) iter.Seq2[drivers.Upload, error] {
	return func(func(drivers.Upload, error) bool) {}
}
