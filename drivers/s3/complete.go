package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berthhq/berth/drivers"
)

// completeTimeout limits the requests of a Complete, which continue after its
// caller has left.
const completeTimeout = 10 * time.Minute

// Complete is a CompleteMultipartUpload with If-None-Match: *. If the key is
// taken or the upload is gone, it returns the object at the key, or ErrNotFound
// if there is none.
//
// Amazon's answer to a 409 is to start again with CreateMultipartUpload. But
// the only possible conflict here is with another Complete of the same upload,
// and to give up the upload would lose committed data. So the same request is
// retried: it completes the upload, finds the object, or finds that the upload
// is gone. If every try is answered with 409 and there is no object, Complete
// returns ErrBusy.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
//
// A refusal may also come in a 200, since S3 starts its answer before it is
// done. The SDK then reports the status as 500.
//
// Once sent, the request is not canceled when ctx ends, because MinIO would
// lose the upload half-way. Complete returns the context's error at once.
func (b *bucket) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	o, err := b.detachedComplete(ctx, u, slices.Clone(parts), crc32c)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("s3: complete %s of %d parts: %w", u.Key, len(parts), err)
	}
	return o, nil
}

func (b *bucket) detachedComplete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	if err := ctx.Err(); err != nil {
		return drivers.Object{}, err
	}
	if err := checkParts(parts, crc32c); err != nil {
		return drivers.Object{}, err
	}
	var o drivers.Object
	failed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeTimeout)
		defer cancel()
		var err error
		o, err = b.complete(ctx, u, parts, crc32c)
		failed <- err
	}()
	select {
	case err := <-failed:
		return o, err
	case <-ctx.Done():
		return drivers.Object{}, ctx.Err()
	}
}

// checkParts checks by arithmetic what not every store checks: it returns an
// error if there are no parts, or if their CRC-32Cs do not combine to crc32c.
func checkParts(parts []drivers.Part, crc32c uint32) error {
	if len(parts) == 0 {
		return errors.New("no parts")
	}
	var crc uint32
	for _, p := range parts {
		crc = drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	if crc != crc32c {
		return fmt.Errorf("the CRC-32C of the parts is %08x, want %08x", crc, crc32c)
	}
	return nil
}

func (b *bucket) complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	completed := b.completedParts(parts)
	out, err := b.completeWith(ctx, u, completed, crc32c)
	if code(err) == "InvalidPart" && b.sums == sumSHA256 {
		changed, listErr := b.currentTags(ctx, u, parts, completed)
		switch {
		case listErr != nil:
			err = listErr
		case changed:
			out, err = b.completeWith(ctx, u, completed, crc32c)
		}
	}
	switch {
	case err == nil && b.says(out):
		o := drivers.Object{Key: u.Key, Tag: tagOf(out.ETag)}
		for _, p := range parts {
			o.Size += p.Size
		}
		return o, nil
	case err == nil:
		return b.look(ctx, u.Key)
	case code(err) == "InvalidPart":
		return drivers.Object{}, b.invalidPart(ctx, u, parts, err)
	case code(err) == "NoSuchUpload", isTaken(err):
		return b.stat(ctx, u.Key)
	case code(err) == "ConditionalRequestConflict", status(err) == http.StatusConflict:
		if o, statErr := b.stat(ctx, u.Key); statErr == nil {
			return o, nil
		}
		return drivers.Object{}, fmt.Errorf("%w: %w", drivers.ErrBusy, err)
	default:
		return drivers.Object{}, b.classify(ctx, err)
	}
}

// says reports whether a successful answer proves that the object exists.
// versitygw 1.8.0 also reports success if another request is ahead, if a killed
// one has stopped half-way, and if the upload is gone while anything is at its
// key (backend/posix: CompleteMultipartUpload). In these cases it leaves out
// the checksum of the whole object.
func (b *bucket) says(out *s3.CompleteMultipartUploadOutput) bool {
	if b.sums == sumWhole {
		return out.ChecksumCRC32C != nil
	}
	return !b.versityGW
}

// look waits for the object of an upload that the store reports as completed,
// because another request may be about to create it. It returns ErrNotFound if
// the object is an empty one that stands for an absent one, and ErrBusy if none
// appears within a few seconds.
func (b *bucket) look(ctx context.Context, key string) (drivers.Object, error) {
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		o, err := b.head(ctx, key)
		switch {
		case err == nil && b.emptyIsAbsent && o.Size == 0:
			return drivers.Object{}, drivers.ErrNotFound
		case err == nil:
			return o, nil
		case status(err) != http.StatusNotFound:
			return o, b.classify(ctx, err)
		case pause > 3*time.Second:
			return o, fmt.Errorf("%w: the store says that the upload is complete, and has no object", drivers.ErrBusy)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
}

func (b *bucket) completedParts(parts []drivers.Part) []types.CompletedPart {
	completed := make([]types.CompletedPart, len(parts))
	for i, p := range parts {
		n := int32(p.Number)
		etag, sum := splitPartTag(p.Tag)
		completed[i] = types.CompletedPart{PartNumber: &n, ETag: ifMatch(etag)}
		switch b.sums {
		case sumWhole, sumParts:
			completed[i].ChecksumCRC32C = encodeCRC(p.CRC32C)
		case sumSHA256:
			completed[i].ChecksumSHA256 = optional(sum)
		}
	}
	return completed
}

func (b *bucket) completeWith(ctx context.Context, u drivers.Upload, parts []types.CompletedPart, crc32c uint32) (*s3.CompleteMultipartUploadOutput, error) {
	in := &s3.CompleteMultipartUploadInput{
		Bucket:          b.bucketName(),
		Key:             b.name(u.Key),
		UploadId:        &u.ID,
		IfNoneMatch:     star(),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	if b.sums == sumWhole {
		in.ChecksumCRC32C, in.ChecksumType = encodeCRC(crc32c), types.ChecksumTypeFullObject
	}
	return b.client.CompleteMultipartUpload(ctx, in)
}

// invalidPart returns the error that an InvalidPart stands for. Cloudflare R2
// also answers InvalidPart if the parts have different sizes; then no part has
// changed, and the upload would fail forever. If equal parts are configured, an
// upload with parts of different sizes predates the setting. It is lost like an
// upload with a changed part.
// https://developers.cloudflare.com/r2/api/error-codes/
func (b *bucket) invalidPart(ctx context.Context, u drivers.Upload, parts []drivers.Part, err error) error {
	if b.equalParts || !isUnequal(parts) {
		return drivers.ErrChanged
	}
	if !strings.Contains(message(err), "same length") {
		moved, listErr := b.hasMoved(ctx, u, parts)
		switch {
		case code(listErr) == "NoSuchUpload", listErr == nil && moved:
			return drivers.ErrChanged
		case listErr != nil:
			return b.classify(ctx, listErr)
		}
	}
	return fmt.Errorf("%w: storage.s3.equal_parts: this store wants all parts of an upload but the last to have one size: set it to true (uploads that have parts of different sizes must be sent again): %w", drivers.ErrRefused, err)
}

// isUnequal reports whether parts other than the last have different sizes, or
// the last is the largest.
func isUnequal(parts []drivers.Part) bool {
	return slices.ContainsFunc(parts[1:], func(p drivers.Part) bool {
		return p.Size > parts[0].Size || p.Size < parts[0].Size && p.Number != parts[len(parts)-1].Number
	})
}

// hasMoved reports whether the store lacks any of the parts with these tags.
func (b *bucket) hasMoved(ctx context.Context, u drivers.Upload, parts []drivers.Part) (bool, error) {
	there := make(map[int]string, len(parts))
	for stored, err := range b.storedParts(ctx, u) {
		if err != nil {
			return false, err
		}
		there[int(aws.ToInt32(stored.PartNumber))] = tagOf(stored.ETag)
	}
	return slices.ContainsFunc(parts, func(p drivers.Part) bool {
		etag, _ := splitPartTag(p.Tag)
		return there[p.Number] != etag
	}), nil
}

// storedParts returns the parts of an upload, by pages of ListParts.
func (b *bucket) storedParts(ctx context.Context, u drivers.Upload) iter.Seq2[types.Part, error] {
	return func(yield func(types.Part, error) bool) {
		in := &s3.ListPartsInput{Bucket: b.bucketName(), Key: b.name(u.Key), UploadId: &u.ID}
		for {
			page, err := b.client.ListParts(ctx, in)
			if err != nil {
				yield(types.Part{}, err)
				return
			}
			for _, stored := range page.Parts {
				if !yield(stored, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			if aws.ToString(page.NextPartNumberMarker) == "" {
				yield(types.Part{}, fmt.Errorf("list the parts: %w", errCutShort))
				return
			}
			in.PartNumberMarker = page.NextPartNumberMarker
		}
	}
}

// currentTags replaces an ETag in completed by the store's current ETag if the
// stored part has the recorded size and SHA-256. Where equal bytes get
// different ETags, a retry of a part changes its ETag. currentTags reports
// whether it changed any.
func (b *bucket) currentTags(ctx context.Context, u drivers.Upload, parts []drivers.Part, completed []types.CompletedPart) (changed bool, err error) {
	byNumber := make(map[int32]int, len(parts))
	for i := range completed {
		byNumber[*completed[i].PartNumber] = i
	}
	for stored, err := range b.storedParts(ctx, u) {
		if err != nil {
			return false, err
		}
		i, named := byNumber[aws.ToInt32(stored.PartNumber)]
		if !named {
			continue
		}
		_, sum := splitPartTag(parts[i].Tag)
		if sum != "" && aws.ToString(stored.ChecksumSHA256) == sum && aws.ToInt64(stored.Size) == parts[i].Size &&
			tagOf(stored.ETag) != tagOf(completed[i].ETag) {
			completed[i].ETag, changed = stored.ETag, true
		}
	}
	return changed, nil
}
