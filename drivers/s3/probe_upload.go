package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
)

// probeUpload determines how parts get their ETags, which checksums multipart
// uploads may carry, whether the store compares them, and whether a Complete
// replaces the object at its key. It returns only these abilities.
func (b *bucket) probeUpload(ctx context.Context, key string) (abilities, error) {
	trial := *b
	if err := trial.probeSums(ctx, key); err != nil {
		return abilities{}, err
	}
	a := abilities{sums: trial.sums}
	u, err := trial.startUpload(ctx, key)
	if err != nil {
		return a, fmt.Errorf("start a multipart upload: %w", b.classify(ctx, err))
	}
	defer b.cleanUpUpload(ctx, u)
	if a.unchecked, err = trial.probePart(ctx, u); err != nil {
		return a, err
	}
	a.completeReplaces, err = trial.probeComplete(ctx, u)
	return a, err
}

// probeSums sets b.sums to the best checksums that the store supports, and
// leaves an object at the key.
func (b *bucket) probeSums(ctx context.Context, key string) error {
	u, err := b.probeStart(ctx, key)
	if err != nil {
		return err
	}
	defer b.cleanUpUpload(ctx, u)
	body := probeBody()
	first, err := b.putPart(ctx, u, 1, body)
	if err != nil {
		return fmt.Errorf("write a part: %w", err)
	}
	part, err := b.putPart(ctx, u, 1, body)
	switch {
	case err != nil:
		return fmt.Errorf("write a part: %w", err)
	case first.Tag != part.Tag && b.sums == sumNone:
		return errors.New("storage.s3.checksum: none does not go with this bucket, where parts of equal bytes have different ETags, as with SSE-KMS: use crc32c")
	}
	out, err := b.completeWith(ctx, u, b.completedParts([]drivers.Part{part}), part.CRC32C)
	switch {
	case err == nil && (b.sums != sumWhole || aws.ToString(out.ChecksumCRC32C) == *encodeCRC(part.CRC32C)):
	case b.sums == sumWhole && (err == nil || refuses(err)): // it does not support this checksum
		b.sums = sumParts
		if err != nil {
			return b.makeUpload(ctx, key)
		}
	default:
		return fmt.Errorf("complete a multipart upload: %w", b.classify(ctx, err))
	}
	if first.Tag != part.Tag {
		b.sums = sumSHA256
	}
	return nil
}

// makeUpload creates the object at the key by a new upload.
func (b *bucket) makeUpload(ctx context.Context, key string) error {
	u, err := b.startUpload(ctx, key)
	if err != nil {
		return fmt.Errorf("start a multipart upload: %w", b.classify(ctx, err))
	}
	defer b.cleanUpUpload(ctx, u)
	part, err := b.putPart(ctx, u, 1, probeBody())
	if err != nil {
		return fmt.Errorf("write a part: %w", err)
	}
	if _, err := b.completeWith(ctx, u, b.completedParts([]drivers.Part{part}), part.CRC32C); err != nil {
		return fmt.Errorf("complete a multipart upload: %w", b.classify(ctx, err))
	}
	return nil
}

// probeStart starts an upload with the best checksum that the store accepts,
// and sets b.sums to that checksum.
func (b *bucket) probeStart(ctx context.Context, key string) (u drivers.Upload, err error) {
	candidates := []sums{sumNone}
	if b.checksums() {
		candidates = []sums{sumWhole, sumParts}
	}
	for _, b.sums = range candidates {
		if u, err = b.startUpload(ctx, key); !refuses(err) {
			break
		}
	}
	switch {
	case err == nil:
		return u, nil
	case refuses(err) && b.checksums():
		return u, fmt.Errorf("storage.s3.checksum: the store takes no multipart upload with CRC-32C (try none): %w", err)
	default:
		return u, fmt.Errorf("start a multipart upload: %w", b.classify(ctx, err))
	}
}

// probePart reports whether the store accepts a part with a wrong checksum.
func (b *bucket) probePart(ctx context.Context, u drivers.Upload) (taken bool, err error) {
	body, other := probeBody(), probeBody()
	in := &s3.UploadPartInput{
		Bucket: b.bucketName(), Key: b.name(u.Key), UploadId: &u.ID, PartNumber: aws.Int32(1),
		Body: body.Reader(), ContentLength: &body.Size,
	}
	switch b.sums {
	case sumNone:
		return false, nil
	case sumWhole, sumParts:
		in.ChecksumCRC32C = encodeCRC(other.CRC32C)
	case sumSHA256:
		sum, err := sumOf(other)
		if err != nil {
			return false, err
		}
		in.ChecksumSHA256 = &sum
	}
	_, err = b.client.UploadPart(ctx, in, b.payload)
	if taken, err = b.wrongTaken(ctx, err); err != nil {
		return false, fmt.Errorf("write a part with a wrong checksum, which must be refused as 400: %w", err)
	}
	return taken, nil
}

// probeComplete reports whether a Complete replaces the object at its key. A
// store may drop the upload when it refuses the Complete; Cloudflare R2 does.
// https://developers.cloudflare.com/r2/platform/release-notes/#2023-08-11
func (b *bucket) probeComplete(ctx context.Context, u drivers.Upload) (replaces bool, err error) {
	part, err := b.putPart(ctx, u, 1, probeBody())
	if err != nil {
		return false, fmt.Errorf("write a part: %w", err)
	}
	out, err := b.completeWith(ctx, u, b.completedParts([]drivers.Part{part}), part.CRC32C)
	switch {
	case err == nil: // versitygw may report success without an effect
		there, err := b.head(ctx, u.Key)
		if err != nil {
			return false, fmt.Errorf("read from the bucket: %w", b.classify(ctx, err))
		}
		return there.Tag == tagOf(out.ETag), nil
	case isTaken(err), status(err) == http.StatusConflict:
		return false, nil
	default:
		return false, fmt.Errorf("complete a multipart upload at a key that is taken, which must be refused as 412: %w", b.classify(ctx, err))
	}
}

// isTaken reports whether a Complete failed because an object exists. The
// refusal may come in a 200.
func isTaken(err error) bool {
	return code(err) == "PreconditionFailed" || status(err) == http.StatusPreconditionFailed
}

// cleanUpUpload aborts an upload of the probe.
func (b *bucket) cleanUpUpload(ctx context.Context, u drivers.Upload) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_ = b.Abort(ctx, u)
}
