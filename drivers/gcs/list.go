package gcs

import (
	"context"
	"iter"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// List lists the keys before parts/ and the keys after it.
// GCS sorts names by their bytes:
// https://cloud.google.com/storage/docs/json_api/v1/objects/list.
func (s *objectStore) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		for _, r := range around(prefix) {
			from := max(r.from, after)
			n := want
			if n > 0 && from != "" {
				n++ // the start of a range is part of it
			}
			for attrs, err := range s.list(ctx, prefix, from, r.to, n) {
				if err != nil {
					yield(drivers.Object{}, failed("list", prefix, err))
					return
				}
				key := strings.TrimPrefix(attrs.Name, s.prefix)
				if key == after {
					continue
				}
				if !yield(drivers.Object{Key: key, Size: attrs.Size, Modified: attrs.Updated}, nil) {
					return
				}
			}
		}
	}
}

// keyRange is the keys in the range [from, to), where "" is no bound.
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
