package blobstore

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/berthhq/berth/drivers"
)

// emptied is a bucket without conditional deletions, which are made of replacements with
// an empty object, as the s3 driver does where it has to. An empty object counts as
// absent. The store in memory takes no empty objects, so one byte stands for none.
type emptied struct{ drivers.Bucket }

const emptySize = 1

// inEmptied opens an emptied bucket in memory.
func inEmptied(ctx context.Context) (drivers.Bucket, error) {
	b, err := inMemory(tinyS3())(ctx)
	return emptied{b}, err
}

// Create creates an object, or replaces an empty one.
func (e emptied) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	o, err := e.Bucket.Create(ctx, key, body)
	if !errors.Is(err, drivers.ErrExists) {
		return o, err
	}
	existing, statErr := e.Bucket.Stat(ctx, key)
	if statErr != nil || existing.Size > emptySize {
		return o, err
	}
	if o, err = e.Bucket.Replace(ctx, key, existing.Tag, body); errors.Is(err, drivers.ErrChanged) {
		err = drivers.ErrExists
	}
	return o, err
}

// DeleteIf replaces an object with an empty one.
func (e emptied) DeleteIf(ctx context.Context, key, tag string) error {
	_, err := e.Bucket.Replace(ctx, key, tag, drivers.NewBody(make([]byte, emptySize)))
	if errors.Is(err, drivers.ErrChanged) {
		if _, statErr := e.Stat(ctx, key); errors.Is(statErr, drivers.ErrNotFound) {
			return nil
		}
	}
	return err
}

// Open opens an object that is not empty.
func (e emptied) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	rc, o, err := e.Bucket.Open(ctx, key, off, n)
	if err == nil && o.Size == emptySize {
		rc.Close()
		return nil, drivers.Object{}, drivers.ErrNotFound
	}
	return rc, o, err
}

// Stat describes an object that is not empty.
func (e emptied) Stat(ctx context.Context, key string) (drivers.Object, error) {
	o, err := e.Bucket.Stat(ctx, key)
	if err == nil && o.Size == emptySize {
		return drivers.Object{}, drivers.ErrNotFound
	}
	return o, err
}

// List returns the objects that are not empty.
func (e emptied) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		for o, err := range e.Bucket.List(ctx, prefix, after, want) {
			if err == nil && o.Size == emptySize {
				continue
			}
			if !yield(o, err) {
				return
			}
		}
	}
}
