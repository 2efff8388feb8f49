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

// deleteBatch is the maximum number of keys in a DeleteObjects.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
const deleteBatch = 1000

// DeleteIf is a DeleteObject with If-Match. If the store does not support that,
// it is a PutObject of zero bytes with If-Match. It returns errors.ErrUnsupported if the
// bucket is for data only.
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
	if b.store.cfg.DataOnly {
		return errDataOnly
	}
	attempts := new(attempts)
	var err error
	if b.conditionalDelete {
		err = b.store.remove(ctx, key, ifMatch(tag), attempts.watch)
	} else {
		_, err = b.store.put(ctx, key, drivers.Body{}, ifTag(tag), attempts)
	}
	switch {
	case isAbsent(err):
		return nil
	case status(err) != http.StatusPreconditionFailed:
		return b.store.classify(ctx, err)
	}
	// The condition also fails for an absent object, and for the empty object
	// that stands for an absent one. A store may also answer 412 for a key that another
	// request is deleting.
	existing, err := b.store.head(ctx, key)
	switch {
	case isAbsent(err), err == nil && b.emptyIsAbsent && existing.Size == 0:
		return nil
	case err != nil:
		return b.store.classify(ctx, err)
	default:
		return attempts.claim(drivers.ErrChanged)
	}
}

// Delete is a DeleteObject for one key. Several keys are deleted with as
// few DeleteObjects as possible. It returns the first error.
func (b *bucket) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := drivers.CheckKey(key); err != nil {
			return fmt.Errorf("s3: delete: %w", err)
		}
	}
	if err := b.store.deleteAll(ctx, keys); err != nil {
		return fmt.Errorf("s3: delete %w", err)
	}
	return nil
}

// deleteAll deletes the keys. Its errors start with a key, and are classified.
func (s *store) deleteAll(ctx context.Context, keys []string) error {
	if len(keys) == 1 {
		if err := s.remove(ctx, keys[0], nil); err != nil && !isAbsent(err) {
			return fmt.Errorf("%s: %w", keys[0], s.classify(ctx, err))
		}
		return nil
	}
	for batch := range slices.Chunk(keys, deleteBatch) {
		if err := s.deleteObjects(ctx, batch); err != nil {
			return fmt.Errorf("%s and %d others: %w", batch[0], len(batch)-1, err)
		}
	}
	return nil
}

// deleteObjects sends one DeleteObjects. Its errors are classified.
func (s *store) deleteObjects(ctx context.Context, keys []string) error {
	in := &s3.DeleteObjectsInput{Bucket: s.bucket(), Delete: &types.Delete{Quiet: aws.Bool(true)}}
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if !seen[key] {
			seen[key] = true
			in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: s.name(key)})
		}
	}
	option := withContentMD5
	if s.cfg.sendsChecksums() {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
		option = func(*s3.Options) {}
	}
	out, err := s.client.DeleteObjects(ctx, in, option)
	if err != nil {
		return s.classify(ctx, err)
	}
	for _, e := range out.Errors {
		failed := &keyError{code: aws.ToString(e.Code), message: aws.ToString(e.Message)}
		if failed.code != "NoSuchKey" {
			return fmt.Errorf("%s: %w", aws.ToString(e.Key), s.classify(ctx, failed))
		}
	}
	return nil
}

// withContentMD5 sends the checksum, which DeleteObjects requires, as Content-MD5,
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
