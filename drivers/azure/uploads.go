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

// blockID says which attempt at which part of which upload a block is. Its form
// is in the package's comment.
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

// names says whether tag is the id of a block of this part.
func names(tag string, upload []byte, number int) bool {
	id, err := base64.StdEncoding.Strict().DecodeString(tag)
	return err == nil && len(id) == len(blockID{}) &&
		int(binary.BigEndian.Uint16(id)) == number && string(id[2:2+uploadSize]) == string(upload)
}

// uploadID is the id of an upload in bytes. One that isn't this driver's is of
// no upload.
func uploadID(u drivers.Upload) ([]byte, error) {
	id, err := hex.DecodeString(u.ID)
	if err != nil || len(id) != uploadSize {
		return nil, fmt.Errorf("upload id %.40q: %w", u.ID, drivers.ErrNotFound)
	}
	return id, nil
}

// StartUpload draws an id. It asks the service nothing, and so Started is by
// this machine's clock.
func (b *bucket) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Upload{}, failed("start upload of", key, err)
	}
	var id [uploadSize]byte
	rand.Read(id[:])
	return drivers.Upload{Key: key, ID: hex.EncodeToString(id[:]), Started: time.Now().UTC().Truncate(time.Second)}, nil
}

// PutPart stages a block.
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

// StreamPart reports errors.ErrUnsupported: a block is sent with its length
// and its checksum, before the rest of it.
func (b *bucket) StreamPart(_ context.Context, u drivers.Upload, number int, _ io.Reader) (drivers.Part, error) {
	return drivers.Part{}, failed(fmt.Sprintf("stream part %d of", number), u.Key, errors.ErrUnsupported)
}

// Complete commits the blocks. Those that it doesn't name are dropped by the
// service.
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

// completed is the object at the key, which is the upload's own if there is
// one. Otherwise it reports what is wrong.
func (b *bucket) completed(ctx context.Context, key string, otherwise error) (drivers.Object, error) {
	o, err := b.stat(ctx, key)
	if bloberror.HasCode(err, bloberror.BlobNotFound) {
		err = otherwise
	}
	return o, err
}

// total is the size of all parts. It reports what is wrong with them, whatever
// is staged: the service knows no checksum of the whole.
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

// Abort does nothing: the service drops staged blocks by itself, a week after
// the last one came.
func (b *bucket) Abort(ctx context.Context, u drivers.Upload) error {
	return failed("abort", u.Key, check(ctx, u.Key))
}

// Uploads gives none: nobody needs to end them.
func (b *bucket) Uploads(context.Context, string) iter.Seq2[drivers.Upload, error] {
	return func(func(drivers.Upload, error) bool) {}
}
