package catalog

import (
	"context"
	"fmt"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// Manifests returns the digests of the manifests of a repository, in any state, in
// ascending order. It lists as the caller iterates, and ends with the first error.
func (c *Repositories) Manifests(ctx context.Context, repository string) iter.Seq2[digest.Digest, error] {
	return keysOf(ctx, c.bucket, ManifestsPrefix(repository), "", 0, func(key string) (digest.Digest, bool) {
		_, d, ok := ParseManifestKey(key)
		return d, ok
	})
}

// Referrers returns the digests of the manifests that have a referrers entry for the
// subject, in ascending order. If after is not empty, it returns only those after that
// digest. It lists as the caller iterates, and ends with the first error.
func (c *Repositories) Referrers(ctx context.Context, repository string, subject, after digest.Digest) iter.Seq2[digest.Digest, error] {
	from := ""
	if after != "" {
		from = EntryKey(repository, subject, after)
	}
	return keysOf(ctx, c.bucket, EntriesPrefix(repository, subject), from, 0, func(key string) (digest.Digest, bool) {
		_, _, referrer, ok := ParseEntryKey(key)
		return referrer, ok
	})
}

// Marked returns the repositories after last that have a marker, in any state, in the
// order of their keys. If last is empty, it returns all. It lists as the caller
// iterates, in pages of about want, or in the largest pages if want is 0. It ends with
// the first error.
func (c *Repositories) Marked(ctx context.Context, last string, want int) iter.Seq2[string, error] {
	from := ""
	if last != "" {
		from = MarkerKey(last)
	}
	return keysOf(ctx, c.bucket, MarkersPrefix, from, want, ParseMarkerKey)
}

// keysOf returns what parse finds in the keys under a prefix that follow from. The caller
// wants about that many, or all if want is 0.
func keysOf[T any](ctx context.Context, b drivers.Bucket, prefix, from string, want int, parse func(key string) (T, bool)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for o, err := range b.List(ctx, prefix, from, want) {
			if err != nil {
				var none T
				yield(none, fmt.Errorf("catalog: list %s: %w", prefix, err))
				return
			}
			if v, ok := parse(o.Key); ok && !yield(v, nil) {
				return
			}
		}
	}
}
