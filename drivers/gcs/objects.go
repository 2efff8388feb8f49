package gcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/drivers"
)

var errEmpty = errors.New("empty body")

// Create writes the object with the precondition that there is none. It returns
// ErrExists if there is one. A retry may find the object that an earlier
// attempt of the same call has written, and then returns ErrExists too.
func (b *bucket) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	attrs, err := b.create(ctx, key, body)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("gcs: create %s: %w", key, err)
	}
	return object(key, attrs), nil
}

func (b *bucket) create(ctx context.Context, key string, body drivers.Body) (*storage.ObjectAttrs, error) {
	if err := drivers.CheckKey(key); err != nil {
		return nil, err
	}
	return b.write(ctx, b.name(key), b.class(key), whenAbsent(), body, drivers.ErrExists)
}

// Replace writes the object with the precondition that its generation is the
// tag. It returns ErrChanged if it is another, or if the object is gone.
func (b *bucket) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	attrs, err := b.replace(ctx, key, tag, body)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("gcs: replace %s: %w", key, err)
	}
	return object(key, attrs), nil
}

func (b *bucket) replace(ctx context.Context, key, tag string, body drivers.Body) (*storage.ObjectAttrs, error) {
	if err := drivers.CheckKey(key); err != nil {
		return nil, err
	}
	generation, ok := parseTag(tag)
	if !ok {
		return nil, fmt.Errorf("%q is no generation: %w", tag, drivers.ErrChanged)
	}
	attrs, err := b.write(ctx, b.name(key), b.class(key), whenAt(generation), body, drivers.ErrChanged)
	if errors.Is(err, drivers.ErrNotFound) { // in any form in which the store reports that it is gone
		return nil, fmt.Errorf("%w: %w", drivers.ErrChanged, errGone)
	}
	return attrs, err
}

var errGone = errors.New("it is gone")

// write stores the body in one request, even if it is large: a resumable upload
// would cost one more request, and the caller keeps the bytes for a retry.
func (b *bucket) write(ctx context.Context, name, class string, cond storage.Conditions, body drivers.Body, unmet error) (*storage.ObjectAttrs, error) {
	if body.Size == 0 {
		return nil, errEmpty
	}
	o := b.handle.Object(name).If(cond).Retryer(storage.WithPolicy(storage.RetryNever))
	var attrs *storage.ObjectAttrs
	err := again(ctx, func() error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		w := o.NewWriter(ctx)
		w.ChunkSize = 0
		w.ContentType = "application/octet-stream"
		w.StorageClass = class
		w.KMSKeyName = b.cfg.KMSKey
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
	return attrs, b.cfg.classify(ctx, err, unmet)
}

// whenAbsent returns the precondition that there is no object.
func whenAbsent() storage.Conditions { return storage.Conditions{DoesNotExist: true} }

// whenAt returns the precondition that the object has this generation.
func whenAt(generation int64) storage.Conditions {
	return storage.Conditions{GenerationMatch: generation}
}

// class returns the storage class for a key; "" is the bucket's default.
func (b *bucket) class(key string) string {
	if strings.HasPrefix(key, drivers.BulkPrefix) {
		return b.cfg.StorageClass
	}
	return ""
}

// DeleteIf deletes the object with the precondition that its generation is the
// tag. It returns nil if the object is gone, ErrChanged if it has another tag.
func (b *bucket) DeleteIf(ctx context.Context, key, tag string) error {
	if err := b.deleteIf(ctx, key, tag); err != nil {
		return fmt.Errorf("gcs: delete %s: %w", key, err)
	}
	return nil
}

func (b *bucket) deleteIf(ctx context.Context, key, tag string) error {
	if err := drivers.CheckKey(key); err != nil {
		return err
	}
	o := b.handle.Object(b.name(key))
	if generation, ok := parseTag(tag); ok {
		err := b.cfg.classify(ctx, o.If(whenAt(generation)).Delete(ctx), drivers.ErrChanged)
		if errors.Is(err, drivers.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, drivers.ErrChanged) {
			return err
		}
	}
	// An object that is gone does not have this generation either.
	_, err := o.Attrs(ctx)
	switch err := b.cfg.classify(ctx, err, nil); {
	case err == nil:
		return drivers.ErrChanged
	case errors.Is(err, drivers.ErrNotFound):
		return nil
	default:
		return err
	}
}

// Delete deletes the objects, several in parallel. It returns nil for those
// that are gone.
func (b *bucket) Delete(ctx context.Context, keys ...string) error {
	names := make([]string, len(keys))
	for i, key := range keys {
		if err := drivers.CheckKey(key); err != nil {
			return fmt.Errorf("gcs: delete: %w", err)
		}
		names[i] = b.name(key)
	}
	if err := b.deleteAll(ctx, names); err != nil {
		return fmt.Errorf("gcs: delete: %w", err)
	}
	return nil
}

func (b *bucket) deleteAll(ctx context.Context, names []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, name := range names {
		g.Go(func() error {
			err := b.cfg.classify(ctx, b.handle.Object(name).Delete(ctx), nil)
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

// Open reads one generation: after a broken connection the reader resumes with
// the same generation, or fails.
func (b *bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	r, err := b.read(ctx, key, off, n)
	if err != nil {
		return nil, drivers.Object{}, fmt.Errorf("gcs: open %s: %w", key, err)
	}
	return drivers.BusyOnError(reader{r}), drivers.Object{
		Key:      key,
		Size:     r.Attrs.Size,
		Tag:      formatTag(r.Attrs.Generation),
		Modified: r.Attrs.LastModified,
	}, nil
}

// reader reports errors only from Read: Close would only repeat the error of a
// read that was cut off.
type reader struct {
	*storage.Reader
}

func (r reader) Close() error {
	r.Reader.Close() //nolint:errcheck // the error of the read again
	return nil
}

func (b *bucket) read(ctx context.Context, key string, off, n int64) (*storage.Reader, error) {
	if err := drivers.CheckKey(key); err != nil {
		return nil, err
	}
	if n > math.MaxInt64-off {
		n = -1
	}
	r, err := b.handle.Object(b.name(key)).NewRangeReader(ctx, off, n)
	if off == 0 && n > 0 && status(err) == http.StatusRequestedRangeNotSatisfiable {
		r, err = b.handle.Object(b.name(key)).NewReader(ctx) // an empty object, which berth never writes
	}
	return r, b.cfg.classify(ctx, err, nil)
}

// Stat reads the object's metadata.
func (b *bucket) Stat(ctx context.Context, key string) (drivers.Object, error) {
	o, err := b.stat(ctx, key)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("gcs: stat %s: %w", key, err)
	}
	return o, nil
}

func (b *bucket) stat(ctx context.Context, key string) (drivers.Object, error) {
	if err := drivers.CheckKey(key); err != nil {
		return drivers.Object{}, err
	}
	attrs, err := b.handle.Object(b.name(key)).Attrs(ctx)
	if err != nil {
		return drivers.Object{}, b.cfg.classify(ctx, err, nil)
	}
	return object(key, attrs), nil
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

func formatTag(generation int64) string { return strconv.FormatInt(generation, 10) }

// parseTag returns the generation of a tag. It accepts only what formatTag
// returns, because for GCS 0 is the generation of an absent object.
func parseTag(tag string) (generation int64, ok bool) {
	generation, err := strconv.ParseInt(tag, 10, 64)
	return generation, err == nil && generation > 0 && formatTag(generation) == tag
}
