package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berthhq/berth/drivers"
)

// errTruncated reports a truncated listing, which must not be taken as
// complete.
var errTruncated = errors.New("truncated listing without a token for the rest")

// maxKeys is the most keys that a store lists in one page. It is also the default.
const maxKeys = 1000

// List pages through ListObjectsV2, which sorts keys by their bytes.
func (b *bucket) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		if !isKeyPrefix(prefix) { // MinIO refuses some of these
			return
		}
		in := &s3.ListObjectsV2Input{Bucket: b.store.bucket(), Prefix: optional(b.store.prefix + prefix)}
		if after != "" {
			in.StartAfter = b.store.name(after)
		}
		last := after
		for listed := 0; ; {
			in.MaxKeys = nil
			if n := pageSize(prefix, last, drivers.PageSize(want, listed, maxKeys)); n < maxKeys {
				in.MaxKeys = aws.Int32(int32(n))
			}
			page, err := b.store.client.ListObjectsV2(ctx, in)
			if err != nil {
				yield(drivers.Object{}, fmt.Errorf("s3: list %s: %w", prefix, b.store.classify(ctx, err)))
				return
			}
			listed += len(page.Contents)
			if n := len(page.Contents); n > 0 {
				last = b.store.key(page.Contents[n-1].Key)
			}
			for i := range page.Contents {
				if o, ok := b.listed(&page.Contents[i]); ok && !yield(o, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			if aws.ToString(page.NextContinuationToken) == "" {
				yield(drivers.Object{}, fmt.Errorf("s3: list %s: %w", prefix, errTruncated))
				return
			}
			in.ContinuationToken = page.NextContinuationToken
		}
	}
}

// pageSize returns how many keys to request after the key after, to get n.
//
// MinIO counts keys that it leaves out, and takes a page that lacks them for the last
// one. After "dir/a-b.c" it may leave out "dir/a" and "dir/a-b", which are next to it in
// the order of directories. So a page of one directory is larger by as many keys. For
// other listings there is no such bound: the page has the largest size.
func pageSize(prefix, after string, n int) int {
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		return maxKeys
	}
	for _, c := range []byte(strings.TrimPrefix(after, prefix)) {
		switch {
		case c == '/':
			return maxKeys
		case c < '/':
			n++
		}
	}
	return n
}

// listed returns an object of a listing. It reports false if List does not
// return the object: it is absent, or belongs to the driver.
func (b *bucket) listed(found *types.Object) (drivers.Object, bool) {
	o := drivers.Object{Key: b.store.key(found.Key), Size: aws.ToInt64(found.Size), Modified: aws.ToTime(found.LastModified)}
	return o, !strings.HasPrefix(o.Key, drivers.PartsPrefix) && (!b.emptyIsAbsent || o.Size > 0)
}

// isKeyPrefix reports whether any valid key has this prefix.
func isKeyPrefix(prefix string) bool {
	return prefix == "" || drivers.CheckKey(prefix) == nil || drivers.CheckKey(prefix+"x") == nil
}

// Uploads pages through ListMultipartUploads. On Amazon S3 it lists only the
// prefix, so that it does not read the whole of a shared bucket. With other
// stores it lists the whole bucket and filters, because MinIO finds nothing
// by a prefix that is not a key. It continues by key alone, because versitygw
// refuses a key and an upload id together. Therefore it takes a page only up to
// the last key's first upload, which starts the next page. (If one key had a
// full page of uploads, its last uploads would be missed. berth starts one
// upload per key.)
func (b *bucket) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		in := &s3.ListMultipartUploadsInput{Bucket: b.store.bucket(), Prefix: b.store.uploadsPrefix(prefix)}
		for more := true; more; {
			page, err := b.store.client.ListMultipartUploads(ctx, in)
			if err != nil {
				yield(drivers.Upload{}, fmt.Errorf("s3: uploads %s: %w", prefix, b.store.classify(ctx, err)))
				return
			}
			found := page.Uploads
			if more = aws.ToBool(page.IsTruncated); more {
				if len(found) == 0 {
					yield(drivers.Upload{}, fmt.Errorf("s3: uploads %s: %w", prefix, errTruncated))
					return
				}
				found, in.KeyMarker = wholeKeys(found)
			}
			for i := range found {
				key, ours := strings.CutPrefix(aws.ToString(found[i].Key), b.store.prefix)
				if !ours || !strings.HasPrefix(key, prefix) {
					continue
				}
				u := drivers.Upload{Key: key, ID: aws.ToString(found[i].UploadId), Started: aws.ToTime(found[i].Initiated)}
				if !yield(u, nil) {
					return
				}
			}
		}
	}
}

// wholeKeys returns the uploads of a page without those of the last key, which
// may continue on the next page, and the key after which that page starts. If
// all uploads have one key, it returns them all.
func wholeKeys(page []types.MultipartUpload) (whole []types.MultipartUpload, marker *string) {
	last := page[len(page)-1].Key
	n := len(page)
	for n > 0 && aws.ToString(page[n-1].Key) == aws.ToString(last) {
		n--
	}
	if n == 0 {
		return page, last
	}
	return page[:n], page[n-1].Key
}

// uploadsPrefix returns the prefix to list uploads by, or nil for the whole
// bucket.
func (s *store) uploadsPrefix(prefix string) *string {
	if !isAmazon(s.endpoint()) {
		return nil
	}
	return optional(s.prefix + prefix)
}
