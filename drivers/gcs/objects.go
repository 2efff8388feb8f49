package gcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"

	"cloud.google.com/go/storage"

	"github.com/berthhq/berth/drivers"
)

var errEmpty = errors.New("empty body")

// objectStore makes objects and reads them.
type objectStore struct {
	*store
}

// Create writes the object with the precondition that there is none. It returns
// ErrExists if there is one. A retry may find the object that an earlier
// attempt of the same call has written. Then the error also wraps ErrUnanswered.
func (s *objectStore) Create(ctx context.Context, key string, body drivers.Body) (_ drivers.Object, err error) {
	defer func() { err = failed("create", key, err) }()
	if err := drivers.CheckKey(key); err != nil {
		return drivers.Object{}, err
	}
	attrs, err := s.write(ctx, s.name(key), s.class(key), whenAbsent(), body, drivers.ErrExists)
	if err != nil {
		return drivers.Object{}, err
	}
	return object(key, attrs), nil
}

// Replace writes the object with the precondition that its generation is the
// tag. It returns ErrChanged if the object has another generation or is gone.
func (s *objectStore) Replace(ctx context.Context, key, tag string, body drivers.Body) (_ drivers.Object, err error) {
	defer func() { err = failed("replace", key, err) }()
	if err := drivers.CheckKey(key); err != nil {
		return drivers.Object{}, err
	}
	generation, ok := parseTag(tag)
	if !ok {
		return drivers.Object{}, fmt.Errorf("%q is not a generation: %w", tag, drivers.ErrChanged)
	}
	attrs, err := s.write(ctx, s.name(key), s.class(key), whenAt(generation), body, drivers.ErrChanged)
	if errors.Is(err, drivers.ErrNotFound) { // the store answers 404 or 412 if the object is gone
		return drivers.Object{}, refused(fmt.Errorf("%w: the object is gone", drivers.ErrChanged), errors.Is(err, drivers.ErrUnanswered))
	}
	if err != nil {
		return drivers.Object{}, err
	}
	return object(key, attrs), nil
}

// DeleteIf deletes the object with the precondition that its generation is the
// tag. It returns nil if the object is gone, and ErrChanged if it has another tag.
func (s *objectStore) DeleteIf(ctx context.Context, key, tag string) (err error) {
	defer func() { err = failed("delete", key, err) }()
	if err := drivers.CheckKey(key); err != nil {
		return err
	}
	o := s.handle.Object(s.name(key)).Retryer(storage.WithPolicy(storage.RetryNever))
	unanswered := false
	if generation, ok := parseTag(tag); ok {
		unanswered, err = retryWrite(ctx, func() error { return o.If(whenAt(generation)).Delete(ctx) })
		err := s.cfg.classify(ctx, err, drivers.ErrChanged)
		if errors.Is(err, drivers.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, drivers.ErrChanged) {
			return err
		}
	}
	// An object that is gone does not have this generation either.
	_, err = s.handle.Object(s.name(key)).Attrs(ctx)
	switch err := s.cfg.classify(ctx, err, nil); {
	case err == nil:
		return refused(drivers.ErrChanged, unanswered)
	case errors.Is(err, drivers.ErrNotFound):
		return nil
	default:
		return err
	}
}

// Delete deletes the objects, several in parallel. It skips those that are gone.
func (s *objectStore) Delete(ctx context.Context, keys ...string) error {
	names := make([]string, len(keys))
	for i, key := range keys {
		if err := drivers.CheckKey(key); err != nil {
			return fmt.Errorf("gcs: delete: %w", err)
		}
		names[i] = s.name(key)
	}
	if err := s.deleteAll(ctx, names); err != nil {
		return fmt.Errorf("gcs: delete: %w", err)
	}
	return nil
}

// Open reads one generation: after a broken connection the reader resumes with
// the same generation, or fails.
func (s *objectStore) Open(ctx context.Context, key string, off, n int64) (_ io.ReadCloser, _ drivers.Object, err error) {
	defer func() { err = failed("open", key, err) }()
	r, err := s.read(ctx, key, off, n)
	if err != nil {
		return nil, drivers.Object{}, err
	}
	return drivers.BusyOnError(reader{r}), drivers.Object{
		Key:      key,
		Size:     r.Attrs.Size,
		Tag:      formatTag(r.Attrs.Generation),
		Modified: r.Attrs.LastModified,
	}, nil
}

// reader is a storage.Reader with a Close that returns nil. The SDK's Close
// returns the error of the last Read again.
type reader struct {
	*storage.Reader
}

func (r reader) Close() error {
	r.Reader.Close() //nolint:errcheck // Read has returned it
	return nil
}

// read returns a reader of n bytes from off, or to the end if n is -1.
func (s *objectStore) read(ctx context.Context, key string, off, n int64) (*storage.Reader, error) {
	if err := drivers.CheckKey(key); err != nil {
		return nil, err
	}
	if n > math.MaxInt64-off {
		n = -1
	}
	r, err := s.handle.Object(s.name(key)).NewRangeReader(ctx, off, n)
	if off == 0 && n > 0 && status(err) == http.StatusRequestedRangeNotSatisfiable {
		r, err = s.handle.Object(s.name(key)).NewReader(ctx) // an empty object, which berth never writes
	}
	return r, s.cfg.classify(ctx, err, nil)
}

// Stat reads the object's metadata.
func (s *objectStore) Stat(ctx context.Context, key string) (drivers.Object, error) {
	o, err := s.stat(ctx, key)
	return o, failed("stat", key, err)
}
