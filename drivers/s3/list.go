package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
)

// errCutShort reports a truncated listing, which must not be taken as complete.
var errCutShort = errors.New("the store says that there is more, and not where it goes on")

// List pages through ListObjectsV2, which sorts keys by their bytes.
func (b *bucket) List(ctx context.Context, prefix, after string) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		if !beginsKeys(prefix) { // MinIO refuses some of these
			return
		}
		in := &s3.ListObjectsV2Input{Bucket: b.bucketName(), Prefix: optional(b.prefix + prefix)}
		if after != "" {
			in.StartAfter = b.name(after)
		}
		for {
			page, err := b.client.ListObjectsV2(ctx, in)
			if err != nil {
				yield(drivers.Object{}, fmt.Errorf("s3: list %s: %w", prefix, b.classify(ctx, err)))
				return
			}
			for i := range page.Contents {
				found := &page.Contents[i]
				o := drivers.Object{
					Key:      strings.TrimPrefix(aws.ToString(found.Key), b.prefix),
					Size:     aws.ToInt64(found.Size),
					Modified: aws.ToTime(found.LastModified),
				}
				if strings.HasPrefix(o.Key, drivers.PartsPrefix) || b.emptyIsAbsent && o.Size == 0 {
					continue
				}
				if !yield(o, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			if aws.ToString(page.NextContinuationToken) == "" {
				yield(drivers.Object{}, fmt.Errorf("s3: list %s: %w", prefix, errCutShort))
				return
			}
			in.ContinuationToken = page.NextContinuationToken
		}
	}
}

// beginsKeys reports whether any valid key has this prefix.
func beginsKeys(prefix string) bool {
	return prefix == "" || drivers.CheckKey(prefix) == nil || drivers.CheckKey(prefix+"x") == nil
}

// Uploads pages through ListMultipartUploads. On Amazon S3 it lists only the
// prefix, so that it does not read the whole of a shared bucket. With other
// stores it lists the whole bucket and filters, because MinIO finds nothing
// by a prefix that is not a key. It continues by key alone, because versitygw
// refuses a key and an upload id together. Therefore it takes a page only up to
// the last key's first upload, which starts the next page. (If one key had a
// full page of uploads, its last ones would be missed. berth starts one upload
// per key.)
func (b *bucket) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		in := &s3.ListMultipartUploadsInput{Bucket: b.bucketName(), Prefix: b.uploadsPrefix(prefix)}
		for {
			page, err := b.client.ListMultipartUploads(ctx, in)
			if err != nil {
				yield(drivers.Upload{}, fmt.Errorf("s3: uploads %s: %w", prefix, b.classify(ctx, err)))
				return
			}
			found := page.Uploads
			more := aws.ToBool(page.IsTruncated)
			if more && len(found) == 0 {
				yield(drivers.Upload{}, fmt.Errorf("s3: uploads %s: %w", prefix, errCutShort))
				return
			}
			if more {
				last := aws.ToString(found[len(found)-1].Key)
				whole := len(found)
				for whole > 0 && aws.ToString(found[whole-1].Key) == last {
					whole--
				}
				in.KeyMarker = &last
				if whole > 0 {
					found, in.KeyMarker = found[:whole], found[whole-1].Key
				}
			}
			for i := range found {
				key, ours := strings.CutPrefix(aws.ToString(found[i].Key), b.prefix)
				if !ours || !strings.HasPrefix(key, prefix) {
					continue
				}
				u := drivers.Upload{Key: key, ID: aws.ToString(found[i].UploadId), Started: aws.ToTime(found[i].Initiated)}
				if !yield(u, nil) {
					return
				}
			}
			if !more {
				return
			}
		}
	}
}

// uploadsPrefix returns the prefix to list uploads by, or nil for the whole
// bucket.
func (b *bucket) uploadsPrefix(prefix string) *string {
	if !isAmazon(aws.ToString(b.client.Options().BaseEndpoint)) {
		return nil
	}
	return optional(b.prefix + prefix)
}
