package gcs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/iterator"
	raw "google.golang.org/api/storage/v1"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/inspect"
)

// store sends requests to a bucket. Its errors wrap the sentinels of package
// drivers.
type store struct {
	cfg    Config
	prefix string
	handle *storage.BucketHandle
	raw    *raw.Service // for requests that the SDK cannot send
}

// name returns the name of a key in the bucket.
func (s *store) name(key string) string { return s.prefix + key }

// class returns the storage class for a key; "" is the bucket's default.
func (s *store) class(key string) string {
	if strings.HasPrefix(key, drivers.BulkPrefix) {
		return s.cfg.StorageClass
	}
	return ""
}

// write stores the body in one request, even if it is large: a resumable upload
// would cost one more request, and the caller keeps the bytes for a retry.
func (s *store) write(ctx context.Context, name, class string, cond storage.Conditions, body drivers.Body, unmet error) (*storage.ObjectAttrs, error) {
	if body.Size == 0 {
		return nil, errEmpty
	}
	o := s.handle.Object(name).If(cond).Retryer(storage.WithPolicy(storage.RetryNever))
	var attrs *storage.ObjectAttrs
	unanswered, err := retryWrite(ctx, func() error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		w := o.NewWriter(ctx)
		w.ChunkSize = 0
		w.ContentType = "application/octet-stream"
		w.StorageClass = class
		w.KMSKeyName = s.cfg.KMSKey
		w.CRC32C, w.SendCRC32C = body.CRC32C, true
		// The copy fails only if the request has, and Close returns its error.
		_, copied := io.Copy(w, body.Reader())
		if err := w.Close(); err != nil {
			return err
		}
		if copied != nil {
			return copied
		}
		attrs = w.Attrs()
		return nil
	})
	return attrs, refused(s.cfg.classify(ctx, err, unmet), unanswered)
}

// stat returns the object under a key.
func (s *store) stat(ctx context.Context, key string) (drivers.Object, error) {
	if err := drivers.CheckKey(key); err != nil {
		return drivers.Object{}, err
	}
	attrs, err := s.handle.Object(s.name(key)).Attrs(ctx)
	if err != nil {
		return drivers.Object{}, s.cfg.classify(ctx, err, nil)
	}
	return object(key, attrs), nil
}

// deleteAll deletes objects by their names, several in parallel. It returns nil
// for those that are gone.
func (s *store) deleteAll(ctx context.Context, names []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, name := range names {
		g.Go(func() error {
			err := s.cfg.classify(ctx, s.handle.Object(name).Delete(ctx), nil)
			if errors.Is(err, drivers.ErrNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// maxResults is the most objects in one page of a listing. It is also the default.
// https://cloud.google.com/storage/docs/json_api/v1/objects/list
const maxResults = 1000

// list returns the objects with keys that have the prefix and are in the range
// [from, to), where "" is no bound. They have only name, size and time. want is about
// how many the caller is going to read, or 0 for all.
func (s *store) list(ctx context.Context, prefix, from, to string, want int) iter.Seq2[*storage.ObjectAttrs, error] {
	return func(yield func(*storage.ObjectAttrs, error) bool) {
		if from != "" && to != "" && from >= to {
			return
		}
		q := &storage.Query{Prefix: s.name(prefix), Projection: storage.ProjectionNoACL}
		if from != "" {
			q.StartOffset = s.name(from)
		}
		if to != "" {
			q.EndOffset = s.name(to)
		}
		if err := q.SetAttrSelection([]string{"Name", "Size", "Updated"}); err != nil {
			yield(nil, err)
			return
		}
		pageSize := cmp.Or(s.cfg.pageSize, maxResults)
		it := s.handle.Objects(ctx, q)
		for listed := 0; ; listed++ {
			it.PageInfo().MaxSize = drivers.PageSize(want, listed, pageSize)
			attrs, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				if !errors.Is(err, storage.ErrBucketNotExist) {
					err = s.cfg.classify(ctx, err, nil)
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

// hierarchical reports whether the bucket has a hierarchical namespace. It
// needs only the permission to list objects.
// https://cloud.google.com/storage/docs/json_api/v1/buckets/getStorageLayout
func (s *store) hierarchical(ctx context.Context) inspect.Setting[bool] {
	out := inspect.Setting[bool]{Permission: "storage.objects.list"}
	layout, err := s.raw.Buckets.GetStorageLayout(s.cfg.Bucket).Prefix(s.prefix).Context(ctx).Do()
	if err != nil {
		out.Err = s.cfg.classify(ctx, err, nil)
		return out
	}
	out.Value = layout.HierarchicalNamespace != nil && layout.HierarchicalNamespace.Enabled
	return out
}

// whenAbsent returns the precondition that there is no object.
func whenAbsent() storage.Conditions { return storage.Conditions{DoesNotExist: true} }

// whenAt returns the precondition that the object has this generation.
func whenAt(generation int64) storage.Conditions {
	return storage.Conditions{GenerationMatch: generation}
}

// object returns the object with these attributes. Its time is truncated to the
// second, because that is the precision that a reader gets.
func object(key string, attrs *storage.ObjectAttrs) drivers.Object {
	return drivers.Object{
		Key:      key,
		Size:     attrs.Size,
		Tag:      formatTag(attrs.Generation),
		Modified: attrs.Updated.UTC().Truncate(time.Second),
	}
}

// formatTag returns the tag of a generation.
func formatTag(generation int64) string { return strconv.FormatInt(generation, 10) }

// parseTag returns the generation of a tag. It accepts only what formatTag
// returns, because for GCS 0 is the generation of an absent object.
func parseTag(tag string) (generation int64, ok bool) {
	generation, err := strconv.ParseInt(tag, 10, 64)
	return generation, err == nil && generation > 0 && formatTag(generation) == tag
}
