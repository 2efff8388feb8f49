package s3

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
)

// completeTimeout limits the requests of a Complete, which continue after its
// caller has left.
const completeTimeout = 10 * time.Minute

// Complete is a CompleteMultipartUpload with If-None-Match: *. If the key is
// taken or the upload is gone, it returns the object at the key, or ErrNotFound
// if there is none.
//
// Amazon's advice for a 409 is to start again with CreateMultipartUpload. But
// the only possible conflict here is with another Complete of the same upload,
// and abandoning the upload would lose committed data. So the same request is
// retried: it completes the upload, finds the object, or finds that the upload
// is gone. If every attempt is answered with 409 and there is no object,
// Complete returns ErrBusy.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
//
// A refusal may also come in a 200, since S3 starts its response before it is
// done. The SDK then reports the status as 500.
//
// Once sent, the request is not canceled when ctx ends, because MinIO would
// lose the upload half-way. Complete returns the context's error immediately.
func (b *bucket) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	c := completion{bucket: b, upload: u, parts: slices.Clone(parts), crc32c: crc32c}
	o, err := c.runDetached(ctx)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("s3: complete %s of %d parts: %w", u.Key, len(parts), err)
	}
	return o, nil
}

// completion is one call of Complete.
type completion struct {
	bucket *bucket
	upload drivers.Upload
	parts  []drivers.Part
	size   int64 // of the object
	crc32c uint32
}

// runDetached calls run in a goroutine, and returns its result, or the context's
// error if ctx ends before.
func (c *completion) runDetached(ctx context.Context) (_ drivers.Object, err error) {
	if err := ctx.Err(); err != nil {
		return drivers.Object{}, err
	}
	if c.size, err = drivers.CheckParts(c.parts, c.crc32c, c.bucket.Limits()); err != nil {
		return drivers.Object{}, err
	}
	type result struct {
		object drivers.Object
		err    error
	}
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeTimeout)
		defer cancel()
		o, err := c.run(ctx)
		done <- result{o, err}
	}()
	select {
	case r := <-done:
		return r.object, r.err
	case <-ctx.Done():
		return drivers.Object{}, ctx.Err()
	}
}

func (c *completion) run(ctx context.Context) (drivers.Object, error) {
	b, key := c.bucket, c.upload.Key
	out, err := c.send(ctx)
	switch {
	case err == nil && b.completionConfirmed(out):
		return drivers.Object{Key: key, Size: c.size, Tag: tagOf(out.ETag)}, nil
	case err == nil:
		return b.awaitObject(ctx, key)
	case code(err) == "InvalidPart":
		return drivers.Object{}, c.invalidPart(ctx, err)
	case code(err) == "NoSuchUpload", isTaken(err):
		return b.stat(ctx, key)
	case code(err) == "ConditionalRequestConflict", status(err) == http.StatusConflict:
		if o, statErr := b.stat(ctx, key); statErr == nil {
			return o, nil
		}
		return drivers.Object{}, fmt.Errorf("%w: %w", drivers.ErrBusy, err)
	default:
		return drivers.Object{}, b.store.classify(ctx, err)
	}
}

// send sends the CompleteMultipartUpload. If the store refuses a part, and the
// part's ETag may have changed with a retry, send tries again with the store's
// current ETags.
func (c *completion) send(ctx context.Context) (*s3.CompleteMultipartUploadOutput, error) {
	m := c.bucket.multipart
	completed := m.completed(c.parts...)
	out, err := m.complete(ctx, c.upload, completed, c.crc32c)
	if code(err) != "InvalidPart" || m.checksums != checksumSHA256 {
		return out, err
	}
	changed, listErr := m.updateTags(ctx, c.upload, c.parts, completed)
	switch {
	case listErr != nil:
		return nil, listErr
	case !changed:
		return out, err
	}
	return m.complete(ctx, c.upload, completed, c.crc32c)
}

// isTaken reports whether a Complete failed because an object exists. The
// refusal may come in a 200.
func isTaken(err error) bool {
	return code(err) == "PreconditionFailed" || status(err) == http.StatusPreconditionFailed
}

// completionConfirmed reports whether a successful response proves that the
// object exists. versitygw 1.8.0 also reports success if another request is
// ahead, if a killed request has stopped half-way, and if the upload is gone
// while any object is at its key (backend/posix: CompleteMultipartUpload). In
// these cases it leaves out the checksum of the whole object.
func (c capabilities) completionConfirmed(out *s3.CompleteMultipartUploadOutput) bool {
	if c.checksums == checksumWhole {
		return out.ChecksumCRC32C != nil
	}
	return !c.versityGW
}

// awaitObject waits for the object of an upload that the store reports as
// completed, because another request may be about to create it. It returns
// ErrNotFound if the object is an empty one that stands for an absent one, and
// ErrBusy if none appears within a few seconds.
func (b *bucket) awaitObject(ctx context.Context, key string) (drivers.Object, error) {
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		o, err := b.store.head(ctx, key)
		switch {
		case err == nil && b.emptyIsAbsent && o.Size == 0:
			return drivers.Object{}, drivers.ErrNotFound
		case err == nil:
			return o, nil
		case status(err) != http.StatusNotFound:
			return o, b.store.classify(ctx, err)
		case pause > 3*time.Second:
			return o, fmt.Errorf("%w: the store reports the upload as completed, but has no object", drivers.ErrBusy)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
}

// invalidPart returns the error that an InvalidPart stands for. Cloudflare R2
// also answers InvalidPart if the parts have different sizes; then no part has
// changed, and the upload would fail forever. If equal parts are configured, an
// upload with parts of different sizes was started before the setting. It is
// lost like an upload with a changed part.
// https://developers.cloudflare.com/r2/api/error-codes/
func (c *completion) invalidPart(ctx context.Context, err error) error {
	b := c.bucket
	if b.Limits().EqualParts || !areUnequal(c.parts) {
		return drivers.ErrChanged
	}
	if !strings.Contains(message(err), "same length") {
		changed, listErr := b.multipart.lacksAny(ctx, c.upload, c.parts)
		switch {
		case code(listErr) == "NoSuchUpload", listErr == nil && changed:
			return drivers.ErrChanged
		case listErr != nil:
			return b.store.classify(ctx, listErr)
		}
	}
	return fmt.Errorf("%w: s3.Config.EqualParts: this store requires one size for all parts of an upload but the last: set it to true (uploads with parts of different sizes must be sent again): %w", drivers.ErrRefused, err)
}

// areUnequal reports whether parts other than the last have different sizes, or
// the last is the largest.
func areUnequal(parts []drivers.Part) bool {
	return slices.ContainsFunc(parts[1:], func(p drivers.Part) bool {
		return p.Size > parts[0].Size || p.Size < parts[0].Size && p.Number != parts[len(parts)-1].Number
	})
}
