package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berthhq/berth/drivers"
)

// rounds limits how often a create starts again because the key changed between
// its requests.
const rounds = 10

// Create is a PutObject with If-None-Match: *.
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
	var tries tries
	for range rounds {
		o, err := b.put(ctx, key, body, func(in *s3.PutObjectInput) { in.IfNoneMatch = star() }, &tries)
		if status(err) != http.StatusPreconditionFailed {
			return o, b.classify(ctx, err)
		}
		if !b.emptyIsAbsent {
			return o, tries.outcome(drivers.ErrExists)
		}
		there, err := b.head(ctx, key)
		switch {
		case isAbsent(err):
			continue
		case err != nil:
			return o, b.classify(ctx, err)
		case there.Size > 0:
			return o, tries.outcome(drivers.ErrExists)
		}
		if b.versityGW { // the tag may be the next version's, which is not empty
			if again, err := b.head(ctx, key); err != nil || again.Size > 0 || again.Tag != there.Tag {
				continue
			}
		}
		o, err = b.put(ctx, key, body, func(in *s3.PutObjectInput) { in.IfMatch = ifMatch(there.Tag) }, &tries)
		if status(err) != http.StatusPreconditionFailed && !isAbsent(err) {
			return o, b.classify(ctx, err)
		}
	}
	return drivers.Object{}, fmt.Errorf("%w: others create and delete it all the time", drivers.ErrBusy)
}

// Replace is a PutObject with If-Match.
func (b *bucket) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	err := checkWrite(key, body)
	if err == nil {
		var tries tries
		var o drivers.Object
		o, err = b.put(ctx, key, body, func(in *s3.PutObjectInput) { in.IfMatch = ifMatch(tag) }, &tries)
		switch {
		case err == nil:
			return o, nil
		case status(err) == http.StatusPreconditionFailed, isAbsent(err):
			err = tries.outcome(drivers.ErrChanged)
		default:
			err = b.classify(ctx, err)
		}
	}
	return drivers.Object{}, fmt.Errorf("s3: replace %s: %w", key, err)
}

func checkWrite(key string, body drivers.Body) error {
	if body.Size == 0 {
		return errors.New("an empty body")
	}
	return drivers.CheckKey(key)
}

func star() *string {
	s := "*"
	return &s
}

// put sends one conditional PutObject. The body may be empty, for DeleteIf.
func (b *bucket) put(ctx context.Context, key string, body drivers.Body, condition func(*s3.PutObjectInput), tries *tries) (drivers.Object, error) {
	in := &s3.PutObjectInput{
		Bucket:               b.bucketName(),
		Key:                  b.name(key),
		Body:                 body.Reader(),
		ContentLength:        &body.Size,
		ServerSideEncryption: b.encryption(),
		SSEKMSKeyId:          b.kmsKey(),
		StorageClass:         b.storageClass(key),
	}
	condition(in)
	if b.checksums() {
		in.ChecksumCRC32C = encodeCRC(body.CRC32C)
	}
	out, err := b.client.PutObject(ctx, in, tries.watch, b.payload)
	if err != nil {
		return drivers.Object{}, err
	}
	return drivers.Object{Key: key, Size: body.Size, Tag: tagOf(out.ETag)}, nil
}

// payload is an option for calls that send a body. A body that has a checksum
// is not also hashed for the signature, unless the store ignores checksums.
func (b *bucket) payload(o *s3.Options) {
	if b.checksums() && !b.unchecked {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
}

func (b *bucket) checksums() bool { return b.cfg.Checksum != "none" }

func (b *bucket) storageClass(key string) types.StorageClass {
	if strings.HasPrefix(key, drivers.BulkPrefix) {
		return types.StorageClass(b.cfg.StorageClass)
	}
	return ""
}

// encodeCRC returns a CRC-32C in the form of the checksum headers.
func encodeCRC(crc uint32) *string {
	s := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
	return &s
}

// Stat is a HeadObject. The answer to a HEAD has no body that distinguishes a
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
	o, err := b.head(ctx, key)
	switch {
	case status(err) == http.StatusNotFound:
		r, o, err := b.open(ctx, key, 0, 1)
		if err == nil {
			err = r.Close()
		}
		return o, err
	case err != nil:
		return o, b.classify(ctx, err)
	case b.emptyIsAbsent && o.Size == 0:
		return o, drivers.ErrNotFound
	}
	return o, nil
}

// head sends one HeadObject. Only a body contains the reason of a refusal, such
// as expired credentials (400), so head sends a GET to read it. If the GET
// succeeds, because it used new credentials, head sends the HEAD again.
func (b *bucket) head(ctx context.Context, key string) (drivers.Object, error) {
	in := &s3.HeadObjectInput{Bucket: b.bucketName(), Key: b.name(key)}
	out, err := b.client.HeadObject(ctx, in)
	if s := status(err); s == http.StatusBadRequest || s == http.StatusForbidden {
		r, getErr := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: b.bucketName(), Key: b.name(key), Range: byteRange(0, 1)})
		switch {
		case getErr == nil:
			r.Body.Close()
			out, err = b.client.HeadObject(ctx, in)
		case isAbsent(getErr), status(getErr) == s:
			err = getErr
		}
	}
	if err != nil {
		return drivers.Object{}, err
	}
	o := drivers.Object{Key: key, Tag: tagOf(out.ETag)}
	if out.ContentLength != nil {
		o.Size = *out.ContentLength
	}
	if out.LastModified != nil {
		o.Modified = *out.LastModified
	}
	return o, nil
}

// isAbsent reports whether the store has no such key. If an answer has no body,
// the code is NotFound.
func isAbsent(err error) bool {
	c := code(err)
	return c == "NoSuchKey" || c == "NotFound"
}

// Open is a GetObject. The reader returns the bytes of one version to its end.
func (b *bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	err := drivers.CheckKey(key)
	if err == nil {
		var r io.ReadCloser
		var o drivers.Object
		if r, o, err = b.open(ctx, key, off, n); err == nil {
			return r, o, nil
		}
	}
	return nil, drivers.Object{}, fmt.Errorf("s3: open %s: %w", key, err)
}

func (b *bucket) open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	in := &s3.GetObjectInput{Bucket: b.bucketName(), Key: b.name(key)}
	ranged := off > 0 || n >= 0
	if ranged {
		in.Range = byteRange(off, n)
	}
	out, err := b.client.GetObject(ctx, in)
	switch {
	case code(err) == "NoSuchKey":
		return nil, drivers.Object{}, drivers.ErrNotFound
	case status(err) == http.StatusRequestedRangeNotSatisfiable:
		return b.outOfRange(ctx, key, off)
	case err != nil:
		return nil, drivers.Object{}, b.classify(ctx, err)
	}
	o := drivers.Object{Key: key, Tag: tagOf(out.ETag)}
	if out.LastModified != nil {
		o.Modified = *out.LastModified
	}
	switch {
	case ranged:
		o.Size, err = wholeSize(out.ContentRange, off)
	case out.ContentLength == nil:
		err = errors.New("the answer has no Content-Length")
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

// outOfRange returns the result of an open that was answered with 416: its
// range starts past the end, or the object is empty, where no range is
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
		return nil, o, fmt.Errorf("%w: it is being replaced", drivers.ErrBusy)
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
// returns an error if the store, or a proxy before it, ignored Range or
// answered with another offset.
func wholeSize(contentRange *string, off int64) (int64, error) {
	if contentRange == nil {
		return 0, errors.New("the store ignored Range")
	}
	span, size, ok := strings.Cut(strings.TrimPrefix(*contentRange, "bytes "), "/")
	first, _, _ := strings.Cut(span, "-")
	whole, err := strconv.ParseInt(size, 10, 64)
	if !ok || err != nil || first != strconv.FormatInt(off, 10) {
		return 0, fmt.Errorf("Content-Range is %q, want one that begins at %d", *contentRange, off)
	}
	return whole, nil
}
