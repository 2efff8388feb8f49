package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
)

// abilities are what the probe has found out about the store.
type abilities struct {
	// conditionalDelete: the store deletes by tag, in one step.
	conditionalDelete bool

	// emptyIsAbsent: some process deletes, or has deleted, by putting an empty
	// object in the place of another.
	emptyIsAbsent bool

	// versityGW: the store says that it is one. As of 1.8.0 (backend/posix of
	// github.com/versity/versitygw)
	//   - DeleteObject looks at the tag and removes the object in two steps,
	//     without the lock that writes take, and so also takes away what is
	//     written in between: that is no conditional delete;
	//   - HeadObject reads the size and the tag in two steps as well;
	//   - CompleteMultipartUpload says that it has succeeded when it has not, see
	//     says.
	versityGW bool

	sums sums
}

// sums says which checksums multipart uploads carry.
type sums int

const (
	sumNone   sums = iota // none, as the configuration says
	sumWhole              // CRC-32C of each part and of the whole
	sumParts              // CRC-32C of each part
	sumSHA256             // SHA-256 of each part, which its ETag doesn't stand for
)

// emptyMark is there if an empty object is an absent one. It stays: so do the
// empty objects, and every process must know.
const emptyMark = drivers.PartsPrefix + "empty-is-absent"

// probePrefix begins the keys that a probe writes and deletes again.
const probePrefix = drivers.PartsPrefix + "probe-"

// probe tries out the store on keys that nobody else has. It takes about ten
// requests, half of them at the same time as the others.
func (b *bucket) probe(ctx context.Context) (abilities, error) {
	root := probePrefix + rand.Text() + "-"
	var a abilities
	var conditions, multipart error
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.sums, multipart = b.probeUpload(ctx, root+"upload")
	}()
	conditions = b.probeConditions(ctx, root+"object", &a)
	<-done
	if errors.Is(multipart, drivers.ErrRefused) {
		// MinIO has refused access to a Complete while another request, in a
		// bucket that was new, deleted what had been the only object. Nothing
		// else goes on now.
		a.sums, multipart = b.probeUpload(ctx, root+"upload")
	}
	if conditions != nil {
		return a, conditions
	}
	return a, multipart
}

func (b *bucket) probeConditions(ctx context.Context, key string, a *abilities) error {
	defer b.cleanUp(ctx, key)
	body := func() drivers.Body { return drivers.NewBody([]byte("berth " + rand.Text())) }
	put := func(condition func(*s3.PutObjectInput)) (tag string, err error) {
		err = b.patiently(ctx, func() error {
			o, err := b.put(ctx, key, body(), condition, new(tries))
			tag = o.Tag
			return err
		})
		return tag, err
	}

	ifFree := func(in *s3.PutObjectInput) { in.IfNoneMatch = star() }
	tag, err := put(ifFree)
	if err != nil {
		return fmt.Errorf("write to the bucket: %w", b.classify(ctx, err))
	}
	_, err = put(ifFree)
	if status(err) != http.StatusPreconditionFailed {
		return b.ignores(ctx, err, "If-None-Match: * on PutObject (create-only)", "two uploads could overwrite each other")
	}
	a.versityGW = header(err, "Server") == "VERSITYGW"
	ifOther := func(in *s3.PutObjectInput) { in.IfMatch = ifMatch(noTag) }
	if _, err := put(ifOther); status(err) != http.StatusPreconditionFailed {
		return b.ignores(ctx, err, "If-Match on PutObject (compare-and-swap)", "a push and the collector could overwrite each other")
	}
	if tag, err = put(func(in *s3.PutObjectInput) { in.IfMatch = ifMatch(tag) }); err != nil {
		return fmt.Errorf("replace an object by its ETag (If-Match): %w", b.classify(ctx, err))
	}

	err = b.patiently(ctx, func() error {
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.bucketName(), Key: b.name(key), IfMatch: ifMatch(noTag)})
		return err
	})
	switch s := status(err); {
	case s == http.StatusPreconditionFailed:
		a.conditionalDelete = !a.versityGW
	case err == nil, s == http.StatusNotImplemented, s == http.StatusBadRequest:
	default:
		return fmt.Errorf("delete from the bucket: %w", b.classify(ctx, err))
	}
	a.emptyIsAbsent, err = b.markEmpty(ctx, !a.conditionalDelete)
	return err
}

// ignores is the refusal of a store that should have refused a write with this
// condition.
func (b *bucket) ignores(ctx context.Context, err error, condition, danger string) error {
	if err == nil {
		return fmt.Errorf("storage.s3.endpoint: this store ignores %s: %s, so berth does not serve from it", condition, danger)
	}
	return fmt.Errorf("%s that must be refused as 412: %w", condition, b.classify(ctx, err))
}

// markEmpty looks for the mark that empty objects are absent ones, and leaves it
// if it must.
func (b *bucket) markEmpty(ctx context.Context, must bool) (bool, error) {
	_, err := b.head(ctx, emptyMark)
	switch {
	case err == nil:
		return true, nil
	case status(err) != http.StatusNotFound:
		return false, fmt.Errorf("read from the bucket: %w", b.classify(ctx, err))
	case !must:
		return false, nil
	}
	text := "This store can't delete by tag. Where berth has deleted, an empty object stays.\n"
	_, err = b.put(ctx, emptyMark, drivers.NewBody([]byte(text)), func(in *s3.PutObjectInput) { in.IfNoneMatch = star() }, new(tries))
	if err != nil && status(err) != http.StatusPreconditionFailed {
		return false, fmt.Errorf("write to the bucket: %w", b.classify(ctx, err))
	}
	return true, nil
}

// probeUpload finds out how parts get their ETags, and whether the store takes
// the checksum of the whole.
func (b *bucket) probeUpload(ctx context.Context, key string) (sums, error) {
	trial := *b
	u, err := trial.probeStart(ctx, key)
	if err != nil {
		return sumNone, err
	}
	defer b.cleanUpUpload(ctx, u)
	body := drivers.NewBody([]byte("berth " + rand.Text()))
	part, err := trial.putPart(ctx, u, 1, body)
	if err != nil {
		return sumNone, fmt.Errorf("write a part: %w", err)
	}
	again, err := trial.putPart(ctx, u, 1, body)
	switch {
	case err != nil:
		return sumNone, fmt.Errorf("write a part: %w", err)
	case again.Tag == part.Tag:
	case trial.sums == sumNone:
		return sumNone, errors.New("storage.s3.checksum: none does not go with this bucket, where parts of equal bytes have different ETags, as with SSE-KMS: use crc32c")
	default:
		return sumSHA256, nil
	}
	if trial.sums != sumWhole {
		return trial.sums, nil
	}
	out, err := trial.completeWith(ctx, u, trial.completedParts([]drivers.Part{part}), part.CRC32C)
	switch {
	case err == nil && aws.ToString(out.ChecksumCRC32C) == *encodeCRC(part.CRC32C):
		return sumWhole, nil
	case err == nil, refuses(err):
		return sumParts, nil // it doesn't know what it was told
	default:
		return sumNone, fmt.Errorf("complete a multipart upload: %w", b.classify(ctx, err))
	}
}

// probeStart begins an upload with the best checksum that the store takes, and
// leaves in b.sums which that is.
func (b *bucket) probeStart(ctx context.Context, key string) (u drivers.Upload, err error) {
	candidates := []sums{sumNone}
	if b.checksums() {
		candidates = []sums{sumWhole, sumParts}
	}
	for _, b.sums = range candidates {
		if u, err = b.startUpload(ctx, key); !refuses(err) {
			break
		}
	}
	switch {
	case err == nil:
		return u, nil
	case refuses(err) && b.checksums():
		return u, fmt.Errorf("storage.s3.checksum: the store takes no multipart upload with CRC-32C (try none): %w", err)
	default:
		return u, fmt.Errorf("begin a multipart upload: %w", b.classify(ctx, err))
	}
}

// refuses says that the store doesn't know what it was asked for.
func refuses(err error) bool {
	s := status(err)
	return s == http.StatusBadRequest || s == http.StatusNotImplemented
}

const (
	patience    = 5 // tries
	patienceGap = 1100 * time.Millisecond

	cleanUpTimeout = 10 * time.Second
	staleProbe     = time.Hour
)

// patiently tries again while the store is busy: Cloudflare R2 takes one write
// of a key a second.
func (b *bucket) patiently(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if err == nil || !isBusy(err) || status(err) == 0 || try == patience {
			return err
		}
		select {
		case <-time.After(patienceGap):
		case <-ctx.Done():
			return err
		}
	}
}

// cleanUp deletes the probe's object, and those of probes that were killed.
// If it fails, the next probe does it.
func (b *bucket) cleanUp(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	stale := []string{key}
	page, err := b.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: b.bucketName(), Prefix: b.name(probePrefix)})
	if err == nil {
		now, _ := awsmiddleware.GetServerTime(page.ResultMetadata)
		for i := range page.Contents {
			if o := &page.Contents[i]; now.Sub(aws.ToTime(o.LastModified)) > staleProbe {
				stale = append(stale, strings.TrimPrefix(aws.ToString(o.Key), b.prefix))
			}
		}
	}
	_ = b.delete(ctx, stale)
}

// cleanUpUpload drops the probe's upload, or deletes what it became.
func (b *bucket) cleanUpUpload(ctx context.Context, u drivers.Upload) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_ = b.Abort(ctx, u)
	_ = b.delete(ctx, []string{u.Key})
}
