package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// createRounds limits how often a create is tried because the key changed between
// its requests.
const createRounds = 10

// Create is a PutObject with If-None-Match: *, or without a condition if the bucket is
// for data only.
func (b *bucket) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	o, err := b.create(ctx, key, body)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("s3: create %s: %w", key, err)
	}
	return o, nil
}

func (b *bucket) create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if err := checkWrite(key, body); err != nil {
		return drivers.Object{}, err
	}
	attempts := new(attempts)
	for range createRounds {
		o, err := b.store.put(ctx, key, body, b.store.create(), attempts)
		if status(err) != http.StatusPreconditionFailed {
			return o, b.store.classify(ctx, err)
		}
		if !b.emptyIsAbsent {
			return o, attempts.claim(drivers.ErrExists)
		}
		existing, err := b.store.head(ctx, key)
		switch {
		case isAbsent(err):
			continue
		case err != nil:
			return o, b.store.classify(ctx, err)
		case existing.Size > 0:
			return o, attempts.claim(drivers.ErrExists)
		}
		if b.versityGW { // the size and the tag may be of two versions
			if again, err := b.store.head(ctx, key); err != nil || again.Size > 0 || again.Tag != existing.Tag {
				continue
			}
		}
		o, err = b.store.put(ctx, key, body, ifTag(existing.Tag), attempts)
		if status(err) != http.StatusPreconditionFailed && !isAbsent(err) {
			return o, b.store.classify(ctx, err)
		}
	}
	return drivers.Object{}, fmt.Errorf("%w: other writers kept creating and deleting it", drivers.ErrBusy)
}

// Replace is a PutObject with If-Match. It returns errors.ErrUnsupported if the bucket is
// for data only.
func (b *bucket) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	o, err := b.replace(ctx, key, tag, body)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("s3: replace %s: %w", key, err)
	}
	return o, nil
}

func (b *bucket) replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if err := checkWrite(key, body); err != nil {
		return drivers.Object{}, err
	}
	if b.store.cfg.DataOnly {
		return drivers.Object{}, errDataOnly
	}
	attempts := new(attempts)
	o, err := b.store.put(ctx, key, body, ifTag(tag), attempts)
	if status(err) == http.StatusPreconditionFailed || isAbsent(err) {
		return o, attempts.claim(drivers.ErrChanged)
	}
	return o, b.store.classify(ctx, err)
}

// errDataOnly is the error of a conditional write to a bucket for data only.
var errDataOnly = fmt.Errorf("%w: a bucket for data only has no conditional writes", errors.ErrUnsupported)

func checkWrite(key string, body drivers.Body) error {
	if body.Size == 0 {
		return errors.New("the body is empty")
	}
	return drivers.CheckKey(key)
}

// Stat is a HeadObject. The response to a HEAD has no body that distinguishes a
// missing key from a missing bucket, so after a 404 it sends a GET.
func (b *bucket) Stat(ctx context.Context, key string) (drivers.Object, error) {
	o, err := b.stat(ctx, key)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("s3: stat %s: %w", key, err)
	}
	return o, nil
}

func (b *bucket) stat(ctx context.Context, key string) (drivers.Object, error) {
	if err := drivers.CheckKey(key); err != nil {
		return drivers.Object{}, err
	}
	o, err := b.store.head(ctx, key)
	switch {
	case status(err) == http.StatusNotFound:
		r, o, err := b.open(ctx, key, 0, 1)
		if err == nil {
			err = r.Close()
		}
		return o, err
	case err != nil:
		return o, b.store.classify(ctx, err)
	case b.emptyIsAbsent && o.Size == 0:
		return o, drivers.ErrNotFound
	}
	return o, nil
}

// Open is a GetObject. The reader returns bytes of one version of the object.
func (b *bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if err := drivers.CheckKey(key); err != nil {
		return nil, drivers.Object{}, fmt.Errorf("s3: open %s: %w", key, err)
	}
	r, o, err := b.open(ctx, key, off, n)
	if err != nil {
		return nil, drivers.Object{}, fmt.Errorf("s3: open %s: %w", key, err)
	}
	return r, o, nil
}

func (b *bucket) open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	var span *string
	if off > 0 || n >= 0 {
		span = byteRange(off, n)
	}
	out, err := b.store.get(ctx, key, span)
	switch {
	case code(err) == "NoSuchKey":
		return nil, drivers.Object{}, drivers.ErrNotFound
	case status(err) == http.StatusRequestedRangeNotSatisfiable:
		return b.outOfRange(ctx, key, off)
	case err != nil:
		return nil, drivers.Object{}, b.store.classify(ctx, err)
	}
	o := drivers.Object{Key: key, Tag: tagOf(out.ETag)}
	if out.LastModified != nil {
		o.Modified = *out.LastModified
	}
	switch {
	case span != nil:
		o.Size, err = wholeSize(out.ContentRange, off)
	case out.ContentLength == nil:
		err = errors.New("the response has no Content-Length")
	default:
		o.Size = *out.ContentLength
	}
	if err == nil && b.emptyIsAbsent && o.Size == 0 {
		err = drivers.ErrNotFound
	}
	if err != nil {
		out.Body.Close()
		return nil, drivers.Object{}, err
	}
	return drivers.BusyOnError(out.Body), o, nil
}

// outOfRange returns the result of an open that the store answered with 416:
// the range starts past the end, or the object is empty, so that no range is
// satisfiable.
func (b *bucket) outOfRange(ctx context.Context, key string, off int64) (io.ReadCloser, drivers.Object, error) {
	if off > 0 && !b.emptyIsAbsent {
		return nil, drivers.Object{}, drivers.ErrRange
	}
	o, err := b.stat(ctx, key)
	switch {
	case err != nil:
		return nil, o, err
	case off > 0:
		return nil, o, drivers.ErrRange
	case o.Size > 0: // it was empty a moment ago
		return nil, o, fmt.Errorf("%w: the object is being replaced", drivers.ErrBusy)
	}
	return http.NoBody, o, nil
}

// byteRange returns the value of a Range header.
func byteRange(off, n int64) *string {
	r := "bytes=" + strconv.FormatInt(off, 10) + "-"
	if n >= 0 && n <= math.MaxInt64-off {
		r += strconv.FormatInt(off+n-1, 10)
	}
	return &r
}

// wholeSize returns the size of the whole object from a Content-Range. It
// returns an error if the store, or a proxy in front of it, ignored Range or
// sent bytes from another offset.
func wholeSize(contentRange *string, off int64) (int64, error) {
	if contentRange == nil {
		return 0, errors.New("the store ignored Range")
	}
	span, size, ok := strings.Cut(strings.TrimPrefix(*contentRange, "bytes "), "/")
	first, _, _ := strings.Cut(span, "-")
	whole, err := strconv.ParseInt(size, 10, 64)
	if !ok || err != nil || first != strconv.FormatInt(off, 10) {
		return 0, fmt.Errorf("Content-Range is %q, want one that starts at %d", *contentRange, off)
	}
	return whole, nil
}
