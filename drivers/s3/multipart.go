package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berthhq/berth/drivers"
)

// checksumMode is the kind of checksums that multipart uploads carry.
type checksumMode int

const (
	checksumNone   checksumMode = iota // none, as configured
	checksumWhole                      // CRC-32C of each part and of the whole object
	checksumParts                      // CRC-32C of each part
	checksumSHA256                     // SHA-256 of each part, because the ETag doesn't identify its bytes
)

// multipart sends the requests of multipart uploads. It returns the SDK's
// errors as they are, except putPart.
type multipart struct {
	store     *store
	checksums checksumMode
}

// start sends one CreateMultipartUpload. Started is by the store's clock if the
// response has a date.
func (m multipart) start(ctx context.Context, key string) (drivers.Upload, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket:               m.store.bucket(),
		Key:                  m.store.name(key),
		ServerSideEncryption: m.store.encryption(),
		SSEKMSKeyId:          m.store.kmsKey(),
		StorageClass:         m.store.storageClass(key),
	}
	switch m.checksums {
	case checksumWhole:
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject
	case checksumParts:
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
	case checksumSHA256:
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	out, err := m.store.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return drivers.Upload{}, err
	}
	started, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		started = time.Now()
	}
	return drivers.Upload{Key: key, ID: aws.ToString(out.UploadId), Started: started.UTC().Truncate(time.Second)}, nil
}

// putPart sends one UploadPart. It returns ErrNotFound if the upload is gone.
// Other errors are classified.
func (m multipart) putPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	switch {
	case number < 1 || number > maxParts:
		return drivers.Part{}, fmt.Errorf("want a number from 1 to %d", maxParts)
	case body.Size == 0:
		return drivers.Part{}, errors.New("the body is empty")
	}
	in := m.partInput(u, number, body)
	var sum string
	switch m.checksums {
	case checksumWhole, checksumParts:
		in.ChecksumCRC32C = crcHeader(body.CRC32C)
	case checksumSHA256:
		var err error
		if sum, err = sha256Of(body); err != nil {
			return drivers.Part{}, err
		}
		in.ChecksumSHA256 = &sum
	}
	out, err := m.store.client.UploadPart(ctx, in, m.store.payload)
	switch {
	case code(err) == "NoSuchUpload", err != nil && status(err) == 0 && m.isGone(ctx, u):
		return drivers.Part{}, drivers.ErrNotFound
	case err != nil:
		return drivers.Part{}, m.store.classify(ctx, err)
	}
	return drivers.Part{Number: number, Size: body.Size, Tag: partTag(out.ETag, sum), CRC32C: body.CRC32C}, nil
}

// partInput returns the input of an UploadPart, without a checksum.
func (m multipart) partInput(u drivers.Upload, number int, body drivers.Body) *s3.UploadPartInput {
	return &s3.UploadPartInput{
		Bucket:        m.store.bucket(),
		Key:           m.store.name(u.Key),
		UploadId:      &u.ID,
		PartNumber:    aws.Int32(int32(number)),
		Body:          body.Reader(),
		ContentLength: &body.Size,
	}
}

// isGone reports whether the upload of a part that could not be sent is gone. A
// store that refuses a part before reading all of it may close the connection,
// so that its response is lost.
func (m multipart) isGone(ctx context.Context, u drivers.Upload) bool {
	in := m.listInput(u)
	in.MaxParts = aws.Int32(1)
	_, err := m.store.client.ListParts(ctx, in)
	return code(err) == "NoSuchUpload"
}

// complete sends one CompleteMultipartUpload with If-None-Match: *.
func (m multipart) complete(ctx context.Context, u drivers.Upload, parts []types.CompletedPart, crc32c uint32) (*s3.CompleteMultipartUploadOutput, error) {
	in := &s3.CompleteMultipartUploadInput{
		Bucket:          m.store.bucket(),
		Key:             m.store.name(u.Key),
		UploadId:        &u.ID,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	if !m.store.cfg.DataOnly {
		in.IfNoneMatch = star()
	}
	if m.checksums == checksumWhole {
		in.ChecksumCRC32C, in.ChecksumType = crcHeader(crc32c), types.ChecksumTypeFullObject
	}
	return m.store.client.CompleteMultipartUpload(ctx, in)
}

// completed returns the parts in the form of a CompleteMultipartUpload.
func (m multipart) completed(parts ...drivers.Part) []types.CompletedPart {
	completed := make([]types.CompletedPart, len(parts))
	for i, p := range parts {
		etag, sum := splitPartTag(p.Tag)
		completed[i] = types.CompletedPart{PartNumber: aws.Int32(int32(p.Number)), ETag: ifMatch(etag)}
		switch m.checksums {
		case checksumWhole, checksumParts:
			completed[i].ChecksumCRC32C = crcHeader(p.CRC32C)
		case checksumSHA256:
			completed[i].ChecksumSHA256 = optional(sum)
		}
	}
	return completed
}

// abort sends one AbortMultipartUpload.
func (m multipart) abort(ctx context.Context, u drivers.Upload) error {
	_, err := m.store.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: m.store.bucket(), Key: m.store.name(u.Key), UploadId: &u.ID})
	return err
}

func (m multipart) listInput(u drivers.Upload) *s3.ListPartsInput {
	return &s3.ListPartsInput{Bucket: m.store.bucket(), Key: m.store.name(u.Key), UploadId: &u.ID}
}

// storedParts returns the parts of an upload, by pages of ListParts.
func (m multipart) storedParts(ctx context.Context, u drivers.Upload) iter.Seq2[types.Part, error] {
	return func(yield func(types.Part, error) bool) {
		in := m.listInput(u)
		for {
			page, err := m.store.client.ListParts(ctx, in)
			if err != nil {
				yield(types.Part{}, err)
				return
			}
			for _, stored := range page.Parts {
				if !yield(stored, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			if aws.ToString(page.NextPartNumberMarker) == "" {
				yield(types.Part{}, fmt.Errorf("list the parts: %w", errTruncated))
				return
			}
			in.PartNumberMarker = page.NextPartNumberMarker
		}
	}
}

// lacksAny reports whether the store lacks any of the parts with these tags.
func (m multipart) lacksAny(ctx context.Context, u drivers.Upload, parts []drivers.Part) (bool, error) {
	etags := make(map[int]string, len(parts))
	for stored, err := range m.storedParts(ctx, u) {
		if err != nil {
			return false, err
		}
		etags[int(aws.ToInt32(stored.PartNumber))] = tagOf(stored.ETag)
	}
	return slices.ContainsFunc(parts, func(p drivers.Part) bool {
		etag, _ := splitPartTag(p.Tag)
		return etags[p.Number] != etag
	}), nil
}

// updateTags replaces an ETag in completed by the store's current ETag if the
// stored part has the recorded size and SHA-256. Where equal bytes get
// different ETags, a retry of a part changes its ETag. updateTags reports
// whether it changed any.
func (m multipart) updateTags(ctx context.Context, u drivers.Upload, parts []drivers.Part, completed []types.CompletedPart) (changed bool, err error) {
	byNumber := make(map[int32]int, len(parts))
	for i := range completed {
		byNumber[*completed[i].PartNumber] = i
	}
	for stored, err := range m.storedParts(ctx, u) {
		if err != nil {
			return false, err
		}
		i, listed := byNumber[aws.ToInt32(stored.PartNumber)]
		if !listed {
			continue
		}
		_, sum := splitPartTag(parts[i].Tag)
		if sum != "" && aws.ToString(stored.ChecksumSHA256) == sum && aws.ToInt64(stored.Size) == parts[i].Size &&
			tagOf(stored.ETag) != tagOf(completed[i].ETag) {
			completed[i].ETag, changed = stored.ETag, true
		}
	}
	return changed, nil
}

// sha256Of returns the SHA-256 of a body in base64. It returns an error if the
// bytes do not have the body's CRC-32C, because the store can't check that.
func sha256Of(body drivers.Body) (string, error) {
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
