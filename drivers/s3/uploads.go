package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berthhq/berth/drivers"
)

// StartUpload is a CreateMultipartUpload. Started is by the store's clock if
// its answer has a date.
func (b *bucket) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	err := drivers.CheckKey(key)
	if err == nil {
		var u drivers.Upload
		if u, err = b.startUpload(ctx, key); err == nil {
			return u, nil
		}
		err = b.classify(ctx, err)
	}
	return drivers.Upload{}, fmt.Errorf("s3: start upload of %s: %w", key, err)
}

func (b *bucket) startUpload(ctx context.Context, key string) (drivers.Upload, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket:               b.bucketName(),
		Key:                  b.name(key),
		ServerSideEncryption: b.encryption(),
		SSEKMSKeyId:          b.kmsKey(),
		StorageClass:         b.storageClass(key),
	}
	switch b.sums {
	case sumWhole:
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject
	case sumParts:
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
	case sumSHA256:
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	out, err := b.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return drivers.Upload{}, err
	}
	started, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		started = time.Now()
	}
	return drivers.Upload{Key: key, ID: aws.ToString(out.UploadId), Started: started.UTC().Truncate(time.Second)}, nil
}

// PutPart is an UploadPart, with the kind of checksum that the upload was
// started with. It returns ErrNotFound if the upload is gone.
func (b *bucket) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	p, err := b.putPart(ctx, u, number, body)
	if err != nil {
		return drivers.Part{}, fmt.Errorf("s3: part %d of %s: %w", number, u.Key, err)
	}
	return p, nil
}

func (b *bucket) putPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	switch {
	case number < 1 || number > maxParts:
		return drivers.Part{}, fmt.Errorf("want a number from 1 to %d", maxParts)
	case body.Size == 0:
		return drivers.Part{}, errors.New("an empty body")
	}
	n := int32(number)
	in := &s3.UploadPartInput{
		Bucket:        b.bucketName(),
		Key:           b.name(u.Key),
		UploadId:      &u.ID,
		PartNumber:    &n,
		Body:          body.Reader(),
		ContentLength: &body.Size,
	}
	var sum string
	switch b.sums {
	case sumWhole, sumParts:
		in.ChecksumCRC32C = encodeCRC(body.CRC32C)
	case sumSHA256:
		var err error
		if sum, err = sumOf(body); err != nil {
			return drivers.Part{}, err
		}
		in.ChecksumSHA256 = &sum
	}
	out, err := b.client.UploadPart(ctx, in, b.payload)
	switch {
	case code(err) == "NoSuchUpload", err != nil && status(err) == 0 && b.uploadGone(ctx, u):
		return drivers.Part{}, drivers.ErrNotFound
	case err != nil:
		return drivers.Part{}, b.classify(ctx, err)
	}
	return drivers.Part{Number: number, Size: body.Size, Tag: partTag(out.ETag, sum), CRC32C: body.CRC32C}, nil
}

// uploadGone reports whether the upload of a part that could not be sent is
// gone. A store that refuses a part before reading all of it may close the
// connection, and its answer is lost.
func (b *bucket) uploadGone(ctx context.Context, u drivers.Upload) bool {
	one := int32(1)
	_, err := b.client.ListParts(ctx, &s3.ListPartsInput{Bucket: b.bucketName(), Key: b.name(u.Key), UploadId: &u.ID, MaxParts: &one})
	return code(err) == "NoSuchUpload"
}

// sumOf returns the SHA-256 of a body in base64. It returns an error if the
// bytes do not have the body's CRC-32C, because the store can't check that.
func sumOf(body drivers.Body) (string, error) {
	h := sha256.New()
	var crc uint32
	for _, s := range body.Segments {
		h.Write(s)
		crc = drivers.UpdateCRC32C(crc, s)
	}
	if crc != body.CRC32C {
		return "", fmt.Errorf("its CRC-32C is %08x, want %08x", crc, body.CRC32C)
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
}

// StreamPart returns errors.ErrUnsupported: S3 needs a part's length in
// advance.
func (b *bucket) StreamPart(_ context.Context, u drivers.Upload, number int, _ io.Reader) (drivers.Part, error) {
	return drivers.Part{}, fmt.Errorf("s3: stream part %d of %s: %w", number, u.Key, errors.ErrUnsupported)
}

// Abort is an AbortMultipartUpload. It returns nil if the upload is gone.
func (b *bucket) Abort(ctx context.Context, u drivers.Upload) error {
	_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: b.bucketName(), Key: b.name(u.Key), UploadId: &u.ID})
	if err != nil && code(err) != "NoSuchUpload" {
		return fmt.Errorf("s3: abort %s: %w", u.Key, b.classify(ctx, err))
	}
	return nil
}
