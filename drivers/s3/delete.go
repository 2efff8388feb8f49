package s3

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berthhq/berth/drivers"
)

// batchSize is the most keys that DeleteObjects takes.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
const batchSize = 1000

// DeleteIf is a DeleteObject with If-Match. If the store does not support that,
// it is a PutObject of zero bytes with If-Match.
func (b *bucket) DeleteIf(ctx context.Context, key, tag string) error {
	if err := b.deleteIf(ctx, key, tag); err != nil {
		return fmt.Errorf("s3: delete %s: %w", key, err)
	}
	return nil
}

func (b *bucket) deleteIf(ctx context.Context, key, tag string) error {
	if err := drivers.CheckKey(key); err != nil {
		return err
	}
	var tries tries
	var err error
	if b.conditionalDelete {
		_, err = b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.bucketName(), Key: b.name(key), IfMatch: ifMatch(tag)}, tries.watch)
	} else {
		_, err = b.put(ctx, key, drivers.Body{}, func(in *s3.PutObjectInput) { in.IfMatch = ifMatch(tag) }, &tries)
	}
	switch {
	case isAbsent(err):
		return nil
	case status(err) != http.StatusPreconditionFailed:
		return b.classify(ctx, err)
	}
	// An absent object does not have this tag either. It may be an empty
	// object. A store may also answer 412 for a key that another delete is
	// removing.
	there, err := b.head(ctx, key)
	switch {
	case isAbsent(err), err == nil && b.emptyIsAbsent && there.Size == 0:
		return nil
	case err != nil:
		return b.classify(ctx, err)
	default:
		return tries.outcome(drivers.ErrChanged)
	}
}

// Delete is a DeleteObject for one key, and for more keys as few DeleteObjects
// as possible. It returns the first error.
func (b *bucket) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := drivers.CheckKey(key); err != nil {
			return fmt.Errorf("s3: delete: %w", err)
		}
	}
	return b.delete(ctx, keys)
}

func (b *bucket) delete(ctx context.Context, keys []string) error {
	if len(keys) == 1 {
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.bucketName(), Key: b.name(keys[0])})
		if err != nil && !isAbsent(err) {
			return fmt.Errorf("s3: delete %s: %w", keys[0], b.classify(ctx, err))
		}
		return nil
	}
	for batch := range slices.Chunk(keys, batchSize) {
		if err := b.deleteBatch(ctx, batch); err != nil {
			return fmt.Errorf("s3: delete %s and %d others: %w", batch[0], len(batch)-1, err)
		}
	}
	return nil
}

func (b *bucket) deleteBatch(ctx context.Context, keys []string) error {
	in := &s3.DeleteObjectsInput{Bucket: b.bucketName(), Delete: &types.Delete{Quiet: aws.Bool(true)}}
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if !seen[key] {
			seen[key] = true
			in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: b.name(key)})
		}
	}
	option := withContentMD5
	if b.checksums() {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
		option = func(*s3.Options) {}
	}
	out, err := b.client.DeleteObjects(ctx, in, option)
	if err != nil {
		return b.classify(ctx, err)
	}
	for _, e := range out.Errors {
		failed := &keyError{code: aws.ToString(e.Code), message: aws.ToString(e.Message)}
		if failed.code != "NoSuchKey" {
			return fmt.Errorf("%s: %w", aws.ToString(e.Key), b.classify(ctx, failed))
		}
	}
	return nil
}

// withContentMD5 sends the checksum that DeleteObjects requires as Content-MD5,
// for stores that support no other checksum.
// https://docs.aws.amazon.com/sdk-for-go/v2/developer-guide/s3-checksums.html
func withContentMD5(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		if _, err := stack.Initialize.Remove("AWSChecksum:SetupInputContext"); err != nil {
			return err
		}
		if _, err := stack.Finalize.Remove("AWSChecksum:ComputeInputPayloadChecksum"); err != nil {
			return err
		}
		return smithyhttp.AddContentChecksumMiddleware(stack)
	})
}
