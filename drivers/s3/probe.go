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

// probe determines the capabilities of the store, by about 60 small requests on
// keys that no other process uses; a bucket for data only needs about 15. Most requests run in parallel: probe takes
// about as long as ten of them in sequence. It deletes what it wrote, even if it
// fails. It returns an error if berth can't use the store.
func probe(ctx context.Context, c *connection) (capabilities, error) {
	p := prober{store: c.store, transport: c.transport, keys: probeKeys{probePrefix + rand.Text() + "-"}}
	defer p.cleanUp(ctx)
	failed := make(chan struct{}) // closed if the other results no longer matter
	var can, upload capabilities
	var ignored bool
	var conditions, races, checksum, multipart error
	var wg sync.WaitGroup
	wg.Go(func() { ignored, checksum = p.checksum(ctx) })
	wg.Go(func() { upload, multipart = p.upload(ctx) })
	if c.store.cfg.DataOnly {
		can, conditions = p.write(ctx)
	} else {
		wg.Go(func() { races = p.races(ctx, failed) })
		can, conditions = p.conditions(ctx)
	}
	if conditions != nil {
		close(failed)
	}
	wg.Wait()
	if errors.Is(multipart, drivers.ErrRefused) && conditions == nil {
		// MinIO has refused access to a Complete in a new bucket while another
		// request deleted the bucket's only object. No other request is running
		// now.
		upload, multipart = p.upload(ctx)
	}
	can.checksums, can.completeReplaces = upload.checksums, upload.completeReplaces
	can.ignoresChecksums = ignored || upload.ignoresChecksums
	return can, cmp.Or(conditions, races, checksum, multipart)
}

// prober is one probe of a store. Its errors are classified.
type prober struct {
	store     *store
	transport http.RoundTripper // of the store's client
	keys      probeKeys
}

// probePrefix starts the keys that a probe writes and then deletes.
const probePrefix = drivers.PartsPrefix + "probe-"

// probeKeys generates the keys of one probe.
type probeKeys struct {
	root string
}

func (k probeKeys) object() string    { return k.root + "object" }
func (k probeKeys) checksum() string  { return k.root + "wrong" }
func (k probeKeys) upload() string    { return k.root + "upload" }
func (k probeKeys) race(i int) string { return k.root + "race-" + strconv.Itoa(i) }

// all returns every key that the probe may have written.
func (k probeKeys) all() []string {
	keys := []string{k.object(), k.checksum(), k.upload()}
	for i := range maxRaces {
		keys = append(keys, k.race(i))
	}
	return keys
}

// conditions tests the conditions of writes and deletes, one request after the
// other.
func (p prober) conditions(ctx context.Context) (can capabilities, err error) {
	key := p.keys.object()
	put := func(set condition) (tag string, err error) {
		err = retryBusy(ctx, func() error {
			o, err := p.store.put(ctx, key, probeBody(), set, new(attempts))
			tag = o.Tag
			return err
		})
		return tag, err
	}

	tag, err := put(ifFree)
	if err != nil {
		return can, p.firstWriteError(ctx, err)
	}
	_, err = put(ifFree)
	if status(err) != http.StatusPreconditionFailed {
		return can, p.unsafeStoreError(ctx, err, "If-None-Match: * on PutObject (create-only)", "two uploads could overwrite each other")
	}
	can.versityGW = header(err, "Server") == "VERSITYGW"
	if _, err := put(ifTag(noTag)); status(err) != http.StatusPreconditionFailed {
		return can, p.unsafeStoreError(ctx, err, "If-Match on PutObject (compare-and-swap)", "a push and the collector could overwrite each other")
	}
	if _, err = put(ifTag(tag)); err != nil {
		return can, fmt.Errorf("replace an object by its ETag (If-Match): %w", p.store.classify(ctx, err))
	}

	err = retryBusy(ctx, func() error { return p.store.remove(ctx, key, ifMatch(noTag)) })
	switch s := status(err); {
	case s == http.StatusPreconditionFailed:
		can.conditionalDelete = !can.versityGW
	case err == nil, s == http.StatusNotImplemented, s == http.StatusBadRequest:
	default:
		return can, fmt.Errorf("delete from the bucket: %w", p.store.classify(ctx, err))
	}
	can.emptyIsAbsent, err = p.markEmpty(ctx, !can.conditionalDelete)
	return can, err
}

// write tests the writes of a bucket for data only, which have no conditions.
func (p prober) write(ctx context.Context) (can capabilities, err error) {
	_, err = p.store.put(ctx, p.keys.object(), probeBody(), p.store.create(), new(attempts))
	if err != nil {
		return can, fmt.Errorf("write to the bucket: %w", p.store.classify(ctx, err))
	}
	_, err = p.store.head(ctx, p.keys.race(0)) // which nothing has written
	if status(err) != http.StatusNotFound {
		return can, fmt.Errorf("read a key that is absent, which must be refused as 404: %w", p.store.classify(ctx, err))
	}
	can.versityGW = header(err, "Server") == "VERSITYGW"
	return can, nil
}

// probeBody returns a body that differs from that of any other write.
func probeBody() drivers.Body { return drivers.NewBody([]byte("berth " + rand.Text())) }

// firstWriteError returns the reason why the first conditional write failed. If
// the store accepts the same write without the condition, it has no conditional
// writes.
func (p prober) firstWriteError(ctx context.Context, err error) error {
	if isUnsupported(err) && p.store.advice(err) == "" {
		if _, plainErr := p.store.put(ctx, p.keys.object(), probeBody(), unconditional, new(attempts)); plainErr == nil {
			return fmt.Errorf("s3.Config.Endpoint: this store has no conditional writes (If-None-Match), which berth needs; see the table of stores in the README: %w", err)
		}
	}
	return fmt.Errorf("write to the bucket: %w", p.store.classify(ctx, err))
}

// unsafeStoreError returns the error for a store that should have refused a
// write with this condition. The write returned err.
func (p prober) unsafeStoreError(ctx context.Context, err error, condition, danger string) error {
	if err == nil {
		return fmt.Errorf("s3.Config.Endpoint: this store ignores %s: %s, so berth does not serve from it", condition, danger)
	}
	return fmt.Errorf("%s that must be refused as 412: %w", condition, p.store.classify(ctx, err))
}

// checksum reports whether the store accepts a body with a wrong checksum.
func (p prober) checksum(ctx context.Context) (accepted bool, err error) {
	if !p.store.cfg.sendsChecksums() {
		return false, nil
	}
	body := probeBody()
	body.CRC32C ^= 1
	err = retryBusy(ctx, func() error {
		_, err := p.store.put(ctx, p.keys.checksum(), body, p.store.create(), new(attempts))
		return err
	})
	if accepted, err = p.wrongAccepted(ctx, err); err != nil {
		return false, fmt.Errorf("write with a wrong checksum, which must be refused as 400: %w", err)
	}
	return accepted, nil
}

// wrongAccepted reports whether the store accepted a request with a wrong
// checksum, which returned err. It returns an error if err does not show it.
func (p prober) wrongAccepted(ctx context.Context, err error) (accepted bool, _ error) {
	switch {
	case err == nil:
		return true, nil
	case status(err) == http.StatusBadRequest && p.store.advice(err) == "" && !isBusy(err), code(err) == "BadDigest", status(err) == http.StatusUnprocessableEntity:
		return false, nil
	default:
		return false, p.store.classify(ctx, err)
	}
}

// markEmpty reports whether empty objects stand for absent ones, because the
// mark exists. If must is true, it creates the mark where it is missing.
func (p prober) markEmpty(ctx context.Context, must bool) (bool, error) {
	_, err := p.store.head(ctx, emptyMark)
	switch {
	case err == nil:
		return true, nil
	case status(err) != http.StatusNotFound:
		return false, fmt.Errorf("read from the bucket: %w", p.store.classify(ctx, err))
	case !must:
		return false, nil
	}
	text := "This store can't delete by tag. Where berth has deleted, an empty object stays.\n"
	_, err = p.store.put(ctx, emptyMark, drivers.NewBody([]byte(text)), ifFree, new(attempts))
	if err != nil && status(err) != http.StatusPreconditionFailed {
		return false, fmt.Errorf("write to the bucket: %w", p.store.classify(ctx, err))
	}
	return true, nil
}

const (
	cleanUpTimeout = 10 * time.Second
	staleProbe     = time.Hour
)

// cleanUp deletes the objects of this probe and of earlier probes that were
// killed. If it fails, a later probe deletes them.
func (p prober) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	var left []string
	page, err := p.store.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: p.store.bucket(), Prefix: p.store.name(probePrefix)})
	if err != nil || aws.ToBool(page.IsTruncated) {
		left = p.keys.all()
	} else { // only existing objects: a versioned bucket keeps a marker of each delete
		now, _ := awsmiddleware.GetServerTime(page.ResultMetadata)
		for i := range page.Contents {
			key := p.store.key(page.Contents[i].Key)
			if strings.HasPrefix(key, p.keys.root) || now.Sub(aws.ToTime(page.Contents[i].LastModified)) > staleProbe {
				left = append(left, key)
			}
		}
	}
	if p.store.deleteAll(ctx, left) == nil {
		return
	}
	for _, key := range left {
		_ = p.store.deleteAll(ctx, []string{key})
	}
}

const (
	busyTries = 5
	busyPause = 1100 * time.Millisecond
)

// retryBusy calls f again while the store is busy, because Cloudflare R2 accepts
// one write of a key per second
// (https://developers.cloudflare.com/r2/platform/limits/). f returns the SDK's
// errors. An error without a response of the store is not retried.
func retryBusy(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if err == nil || !isBusy(err) || status(err) == 0 || try == busyTries {
			return err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return err
		}
	}
}
