// Package split makes one bucket of two: the data of blobs is in one, and everything
// else, which is small, in the other.
//
// Records, links, sessions and tags need a store with conditional writes. The data does
// not: a key under [drivers.BulkPrefix] is generated at random, written once by one
// upload, never used again, and named only by a record. So the second bucket may be in a
// cheaper or nearer store that has no conditions; package drivers describes what such a
// bucket must do. The key alone decides which bucket a call goes to.
package split

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// New returns a bucket that keeps the keys under [drivers.BulkPrefix] in data, and all
// others in records. Its limits are those of data, because berth uploads nothing else in
// parts. Closing it closes both.
func New(records, data drivers.Bucket) drivers.Bucket { return &bucket{records, data} }

type bucket struct {
	records, data drivers.Bucket
}

var _ drivers.Bucket = (*bucket)(nil)

// of returns the bucket that a key belongs to.
func (b *bucket) of(key string) drivers.Bucket {
	if strings.HasPrefix(key, drivers.BulkPrefix) {
		return b.data
	}
	return b.records
}

func (b *bucket) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	return b.of(key).Create(ctx, key, body)
}

func (b *bucket) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	return b.of(key).Replace(ctx, key, tag, body)
}

func (b *bucket) DeleteIf(ctx context.Context, key, tag string) error {
	return b.of(key).DeleteIf(ctx, key, tag)
}

// Delete deletes the keys of one bucket after those of the other.
func (b *bucket) Delete(ctx context.Context, keys ...string) error {
	var records, data []string
	for _, key := range keys {
		if b.of(key) == b.data {
			data = append(data, key)
		} else {
			records = append(records, key)
		}
	}
	if len(records) > 0 {
		if err := b.records.Delete(ctx, records...); err != nil {
			return err
		}
	}
	if len(data) > 0 {
		return b.data.Delete(ctx, data...)
	}
	return nil
}

func (b *bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	return b.of(key).Open(ctx, key, off, n)
}

func (b *bucket) Stat(ctx context.Context, key string) (drivers.Object, error) {
	return b.of(key).Stat(ctx, key)
}

// List lists one bucket if the prefix decides which. Otherwise it lists both: the keys of
// data stand together in the order of keys.
func (b *bucket) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	shared := min(len(prefix), len(drivers.BulkPrefix))
	switch {
	case prefix[:shared] != drivers.BulkPrefix[:shared]:
		return b.records.List(ctx, prefix, after, want)
	case shared == len(drivers.BulkPrefix):
		return b.data.List(ctx, prefix, after, want)
	}
	return func(yield func(drivers.Object, error) bool) {
		left := b.data.List(ctx, drivers.BulkPrefix, after, want)
		for o, err := range b.records.List(ctx, prefix, after, want) {
			if left != nil && err == nil && o.Key > drivers.BulkPrefix {
				if !all(left, yield) {
					return
				}
				left = nil
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
		if left != nil {
			all(left, yield)
		}
	}
}

// all yields the objects of a listing. It reports whether the caller wants more, and the
// listing has not failed.
func all(objects iter.Seq2[drivers.Object, error], yield func(drivers.Object, error) bool) bool {
	for o, err := range objects {
		if !yield(o, err) || err != nil {
			return false
		}
	}
	return true
}

func (b *bucket) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	if b.of(key) != b.data {
		return drivers.Upload{}, fmt.Errorf("split: %s: only keys under %s are uploaded in parts", key, drivers.BulkPrefix)
	}
	return b.data.StartUpload(ctx, key)
}

func (b *bucket) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	return b.data.PutPart(ctx, u, number, body)
}

func (b *bucket) StreamPart(ctx context.Context, u drivers.Upload, number int, body io.Reader) (drivers.Part, error) {
	return b.data.StreamPart(ctx, u, number, body)
}

func (b *bucket) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	return b.data.Complete(ctx, u, parts, crc32c)
}

func (b *bucket) Abort(ctx context.Context, u drivers.Upload) error { return b.data.Abort(ctx, u) }

func (b *bucket) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return b.data.Uploads(ctx, prefix)
}

func (b *bucket) SignGet(ctx context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	return b.of(key).SignGet(ctx, key, opts)
}

// Limits returns the limits of the bucket of the data.
func (b *bucket) Limits() drivers.Limits { return b.data.Limits() }

// Close closes both buckets, and returns the errors of both.
func (b *bucket) Close() error { return errors.Join(b.records.Close(), b.data.Close()) }
