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

// uploadStore stages blocks and makes blobs of them.
type uploadStore struct {
	*store
}

// StartUpload returns an upload with a new random id. It makes no request, so
// Started is by this machine's clock.
func (s *uploadStore) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Upload{}, failed("start upload of", key, err)
	}
	var id [uploadSize]byte
	rand.Read(id[:])
	return drivers.Upload{Key: key, ID: hex.EncodeToString(id[:]), Started: time.Now().UTC().Truncate(time.Second)}, nil
}

// PutPart stages a block. A second call for the same number stages another
// block.
func (s *uploadStore) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	p, err := s.putPart(ctx, u, number, body)
	return p, s.failed(ctx, fmt.Sprintf("put part %d of", number), u.Key, err)
}

func (s *uploadStore) putPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
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
	write, err := send(body)
	if err != nil {
		return drivers.Part{}, err
	}
	defer write.end()
	id := newBlockID(upload, number).String()
	_, err = s.blob(u.Key).StageBlock(write.in(ctx), id, write.announce(), &blockblob.StageBlockOptions{
		TransactionalValidation: write.checksum(), CPKScopeInfo: s.scope,
	})
	if err != nil {
		return drivers.Part{}, err
	}
	return drivers.Part{Number: number, Size: body.Size, Tag: id, CRC32C: body.CRC32C}, nil
}

// StreamPart returns errors.ErrUnsupported: a block is sent with its length and
// its checksum in front.
func (s *uploadStore) StreamPart(_ context.Context, u drivers.Upload, number int, _ io.Reader) (drivers.Part, error) {
	return drivers.Part{}, failed(fmt.Sprintf("stream part %d of", number), u.Key, errors.ErrUnsupported)
}

// Complete commits the blocks. The service drops the upload's other blocks. If
// the object exists already, Complete returns it. It returns ErrChanged if a
// part is not staged, and ErrNotFound if the object was created and deleted.
func (s *uploadStore) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (_ drivers.Object, err error) {
	defer func() { err = s.failed(ctx, "complete", u.Key, err) }()
	if err := check(ctx, u.Key); err != nil {
		return drivers.Object{}, err
	}
	upload, err := uploadID(u)
	if err != nil {
		return drivers.Object{}, err
	}
	size, err := drivers.CheckParts(parts, crc32c, limits())
	if err != nil {
		return drivers.Object{}, err
	}
	ids := make([]string, len(parts))
	for i, p := range parts {
		if ids[i] = p.Tag; !names(p.Tag, upload, p.Number) {
			return s.completed(ctx, u.Key, fmt.Errorf("part %d: %w", p.Number, drivers.ErrChanged))
		}
	}
	resp, err := s.blob(u.Key).CommitBlockList(ctx, ids, &blockblob.CommitBlockListOptions{
		AccessConditions: &blob.AccessConditions{
			ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)},
		},
		Tier:         s.tierOf(u.Key),
		CPKScopeInfo: s.scope,
	})
	switch {
	case err == nil:
		return object(u.Key, size, resp.ETag, resp.LastModified), nil
	case bloberror.HasCode(err, bloberror.InvalidBlockList, bloberror.InvalidBlobOrBlock, bloberror.InvalidBlockID):
		return s.completed(ctx, u.Key, fmt.Errorf("a part is not staged: %w", drivers.ErrChanged))
	case conditionFailed(err):
		return s.completed(ctx, u.Key, drivers.ErrNotFound)
	default:
		return drivers.Object{}, err
	}
}

// completed returns the object at the key, which this upload has created if it
// exists. If there is none, it returns otherwise.
func (s *uploadStore) completed(ctx context.Context, key string, otherwise error) (drivers.Object, error) {
	o, err := s.stat(ctx, key)
	if bloberror.HasCode(err, bloberror.BlobNotFound) {
		err = otherwise
	}
	return o, err
}

// Abort only checks the key: the service drops staged blocks a week
// after the last one was staged.
func (s *uploadStore) Abort(ctx context.Context, u drivers.Upload) error {
	return failed("abort", u.Key, check(ctx, u.Key))
}

// Uploads returns no uploads, because the service ends them itself.
func (s *uploadStore) Uploads(context.Context, string) iter.Seq2[drivers.Upload, error] {
	return func(func(drivers.Upload, error) bool) {}
}
