package gcs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"github.com/berthhq/berth/drivers"
)

// List lists the keys before parts/ and the keys after it, in pages of 1000.
// GCS sorts names by their bytes:
// https://cloud.google.com/storage/docs/json_api/v1/objects/list.
func (b *bucket) List(ctx context.Context, prefix, after string) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		for _, r := range around(prefix) {
			for attrs, err := range b.list(ctx, prefix, max(r.from, after), r.to) {
				if err != nil {
					yield(drivers.Object{}, fmt.Errorf("gcs: list %s: %w", prefix, err))
					return
				}
				key := strings.TrimPrefix(attrs.Name, b.prefix)
				if key == after {
					continue // the start of a range is part of it
				}
				if !yield(drivers.Object{Key: key, Size: attrs.Size, Modified: attrs.Updated}, nil) {
					return
				}
			}
		}
	}
}

// keyRange is the keys from one up to, but not including, another; "" is no
// bound.
type keyRange struct{ from, to string }

// afterParts is the first key after all keys under drivers.PartsPrefix.
const afterParts = "parts0"

// around returns the ranges of keys with this prefix that are not the driver's
// own.
func around(prefix string) []keyRange {
	switch {
	case strings.HasPrefix(prefix, drivers.PartsPrefix):
		return nil
	case strings.HasPrefix(drivers.PartsPrefix, prefix): //nolint:gocritic // a prefix of parts/, not one with it
		return []keyRange{{"", drivers.PartsPrefix}, {afterParts, ""}}
	default:
		return []keyRange{{"", ""}}
	}
}

// list returns the objects with keys that have the prefix and are in the range
// from from up to, but not including, to. They have only name, size and time.
func (b *bucket) list(ctx context.Context, prefix, from, to string) iter.Seq2[*storage.ObjectAttrs, error] {
	return func(yield func(*storage.ObjectAttrs, error) bool) {
		if from != "" && to != "" && from >= to {
			return
		}
		q := &storage.Query{Prefix: b.name(prefix), Projection: storage.ProjectionNoACL}
		if from != "" {
			q.StartOffset = b.name(from)
		}
		if to != "" {
			q.EndOffset = b.name(to)
		}
		if err := q.SetAttrSelection([]string{"Name", "Size", "Updated"}); err != nil {
			yield(nil, err)
			return
		}
		for it := b.handle.Objects(ctx, q); ; {
			attrs, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				if !errors.Is(err, storage.ErrBucketNotExist) {
					err = b.cfg.classify(ctx, err, nil)
				}
				yield(nil, err)
				return
			}
			if !yield(attrs, nil) {
				return
			}
		}
	}
}
