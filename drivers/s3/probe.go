package s3

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
)

// abilities are the results of the probe.
type abilities struct {
	// conditionalDelete: the store deletes by tag, atomically.
	conditionalDelete bool

	// emptyIsAbsent: some process deletes, or has deleted, by overwriting an
	// object with an empty one.
	emptyIsAbsent bool

	// versityGW: the store identifies itself as versitygw. As of 1.8.0
	// (backend/posix of github.com/versity/versitygw)
	//   - DeleteObject checks the tag and removes the object in two steps,
	//     without the lock that writes take. It can remove an object that was
	//     written in between, so it is not a conditional delete;
	//   - HeadObject reads the size and the tag in two steps as well;
	//   - CompleteMultipartUpload may report success although it has
	//     failed (see complete.go).
	versityGW bool

	sums sums

	// unchecked: the store accepts a body with a wrong checksum. Payloads are
	// then hashed for the signature, since every store compares that.
	unchecked bool

	// completeReplaces: the store ignores If-None-Match on
	// CompleteMultipartUpload.
	completeReplaces bool
}

// sums is the kind of checksums that multipart uploads carry.
type sums int

const (
	sumNone   sums = iota // none, as configured
	sumWhole              // CRC-32C of each part and of the whole
	sumParts              // CRC-32C of each part
	sumSHA256             // SHA-256 of each part, because the ETag doesn't identify its bytes
)

// emptyMark is the key of the object that marks empty objects as absent. It is
// never deleted, because the empty objects remain and every process must treat
// them as absent.
const emptyMark = drivers.PartsPrefix + "empty-is-absent"

// probePrefix starts the keys that a probe writes and then deletes.
const probePrefix = drivers.PartsPrefix + "probe-"

// probe tests the store with about 60 small requests on keys that no other
// process uses. Most requests run in parallel: it takes about as long as ten of
// them in sequence. It deletes what it wrote, even if it fails.
func (b *bucket) probe(ctx context.Context) (abilities, error) {
	root := probePrefix + rand.Text() + "-"
	keys := probeKeys{root}
	defer b.cleanUp(ctx, keys)
	var a, upload abilities
	var unchecked bool
	var conditions, races, checksum, multipart error
	var wg sync.WaitGroup
	wg.Go(func() { races = b.probeRaces(ctx, keys) })
	wg.Go(func() { unchecked, checksum = b.probeChecksum(ctx, keys.wrong()) })
	wg.Go(func() { upload, multipart = b.probeUpload(ctx, keys.upload()) })
	conditions = b.probeConditions(ctx, keys.object(), &a)
	wg.Wait()
	if errors.Is(multipart, drivers.ErrRefused) && conditions == nil {
		// MinIO has refused access to a Complete in a new bucket while another
		// request deleted the bucket's only object. No other request is running
		// now.
		upload, multipart = b.probeUpload(ctx, keys.upload())
	}
	a.sums, a.unchecked, a.completeReplaces = upload.sums, unchecked || upload.unchecked, upload.completeReplaces
	return a, cmp.Or(conditions, races, checksum, multipart)
}

// probeKeys generates the keys of one probe.
type probeKeys struct {
	root string
}

func (k probeKeys) object() string    { return k.root + "object" }
func (k probeKeys) wrong() string     { return k.root + "wrong" }
func (k probeKeys) upload() string    { return k.root + "upload" }
func (k probeKeys) race(i int) string { return k.root + "race-" + strconv.Itoa(i) }

// all returns every key that the probe may have written.
func (k probeKeys) all() []string {
	keys := []string{k.object(), k.wrong(), k.upload()}
	for i := range heats + patience {
		keys = append(keys, k.race(i))
	}
	return keys
}

func (b *bucket) probeConditions(ctx context.Context, key string, a *abilities) error {
	put := func(condition func(*s3.PutObjectInput)) (tag string, err error) {
		err = b.patiently(ctx, func() error {
			o, err := b.put(ctx, key, probeBody(), condition, new(tries))
			tag = o.Tag
			return err
		})
		return tag, err
	}

	tag, err := put(ifFree)
	if err != nil {
		return b.firstWrite(ctx, key, err)
	}
	_, err = put(ifFree)
	if status(err) != http.StatusPreconditionFailed {
		return b.ignores(ctx, err, "If-None-Match: * on PutObject (create-only)", "two uploads could overwrite each other")
	}
	a.versityGW = header(err, "Server") == "VERSITYGW"
	if _, err := put(ifTag(noTag)); status(err) != http.StatusPreconditionFailed {
		return b.ignores(ctx, err, "If-Match on PutObject (compare-and-swap)", "a push and the collector could overwrite each other")
	}
	if _, err = put(ifTag(tag)); err != nil {
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

// probeBody returns a body that differs from that of any other write.
func probeBody() drivers.Body { return drivers.NewBody([]byte("berth " + rand.Text())) }

func ifFree(in *s3.PutObjectInput) { in.IfNoneMatch = star() }

func ifTag(tag string) func(*s3.PutObjectInput) {
	return func(in *s3.PutObjectInput) { in.IfMatch = ifMatch(tag) }
}

// firstWrite returns the reason why the first conditional write failed. If the
// store accepts the same write without the condition, it has no conditional
// writes.
func (b *bucket) firstWrite(ctx context.Context, key string, err error) error {
	if refuses(err) && b.advice(err) == "" {
		if _, plainErr := b.put(ctx, key, probeBody(), func(*s3.PutObjectInput) {}, new(tries)); plainErr == nil {
			return fmt.Errorf("storage.s3.endpoint: this store has no conditional writes (If-None-Match), which berth needs; see the table of stores in the README: %w", err)
		}
	}
	return fmt.Errorf("write to the bucket: %w", b.classify(ctx, err))
}

// probeChecksum reports whether the store accepts a body with a wrong checksum.
func (b *bucket) probeChecksum(ctx context.Context, key string) (taken bool, err error) {
	if !b.checksums() {
		return false, nil
	}
	body := probeBody()
	body.CRC32C ^= 1
	err = b.patiently(ctx, func() error {
		_, err := b.put(ctx, key, body, ifFree, new(tries))
		return err
	})
	if taken, err = b.wrongTaken(ctx, err); err != nil {
		return false, fmt.Errorf("write with a wrong checksum, which must be refused as 400: %w", err)
	}
	return taken, nil
}

// wrongTaken reports whether a request with a wrong checksum, which was
// answered with err, was accepted. It returns an error if the answer shows
// neither.
func (b *bucket) wrongTaken(ctx context.Context, err error) (taken bool, _ error) {
	switch {
	case err == nil:
		return true, nil
	case status(err) == http.StatusBadRequest && b.advice(err) == "" && !isBusy(err), code(err) == "BadDigest", status(err) == http.StatusUnprocessableEntity:
		return false, nil
	default:
		return false, b.classify(ctx, err)
	}
}

// ignores returns the error for a store that should have refused a write with
// this condition.
func (b *bucket) ignores(ctx context.Context, err error, condition, danger string) error {
	if err == nil {
		return fmt.Errorf("storage.s3.endpoint: this store ignores %s: %s, so berth does not serve from it", condition, danger)
	}
	return fmt.Errorf("%s that must be refused as 412: %w", condition, b.classify(ctx, err))
}

// markEmpty reports whether empty objects are absent ones. If must is set and
// there is no mark of that yet, it creates the mark.
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

// refuses reports whether the store does not support the request.
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

// patiently retries f while the store is busy: Cloudflare R2 accepts one write
// of a key per second.
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

// cleanUp deletes the objects of this probe and of earlier probes that were
// killed. If it fails, a later probe deletes them.
func (b *bucket) cleanUp(ctx context.Context, keys probeKeys) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	var left []string
	page, err := b.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: b.bucketName(), Prefix: b.name(probePrefix)})
	if err != nil || aws.ToBool(page.IsTruncated) {
		left = keys.all()
	} else { // only existing objects: a versioned bucket keeps a marker of each delete
		now, _ := awsmiddleware.GetServerTime(page.ResultMetadata)
		for i := range page.Contents {
			key := strings.TrimPrefix(aws.ToString(page.Contents[i].Key), b.prefix)
			if strings.HasPrefix(key, keys.root) || now.Sub(aws.ToTime(page.Contents[i].LastModified)) > staleProbe {
				left = append(left, key)
			}
		}
	}
	if b.delete(ctx, left) == nil {
		return
	}
	for _, key := range left {
		_ = b.delete(ctx, []string{key})
	}
}
