// Package s3 keeps a bucket in Amazon S3, or in a store that speaks its
// protocol.
//
// # What it needs of the store
//
// Create-only writes (If-None-Match: *) and compare-and-swap (If-Match) carry
// all of berth's protocol, so the bucket must have one authoritative region.
// [Open] has several writers try both at the same time, and refuses a store
// that ignores either, or judges it in one step and writes in another. The rest
// is found out and made up for:
//
//   - Without conditional delete, or with versitygw's, which is not atomic,
//     DeleteIf replaces the object, by tag, with an empty one, and from then on
//     an empty object is an absent one, for every process: an object under
//     parts/ says so.
//   - Where parts of equal bytes have different ETags, as under SSE-KMS, parts
//     carry SHA-256, and a part's tag holds it beside the ETag. Complete finds
//     by it which of the attempts at a part the store has kept.
//   - Where the store takes the CRC-32C of a whole multipart object, Complete
//     sends it; elsewhere the parts' own are all that the store checks.
//   - Where the store takes a body with a wrong checksum, payloads are hashed
//     for the signature (x-amz-content-sha256), which every store compares.
//   - Where the store ignores If-None-Match on CompleteMultipartUpload, a
//     warning is logged: a data key is completed once, and a Complete that
//     arrives late could bring back what was collected.
//   - Cloudflare R2, known by its host, wants parts of one size; Tigris wants
//     [consistentHeader] for conditions that hold in all its regions.
//
// # Bytes and their checksums
//
// Bodies go out from the caller's memory, once, with the CRC-32C that the
// caller computed, and are not hashed for the signature (UNSIGNED-PAYLOAD), over
// plain HTTP neither. A tag is the ETag.
//
// # Errors
//
// Requests are tried again by the SDK. If the answer to an attempt was lost, a
// condition that fails on the next says nothing; then the error claims nothing
// either. An error that no retry mends begins with the setting that does.
//
// # Credentials and the clock
//
// Shared credential files are looked at every few seconds, and read again when
// they have changed or the store has refused the key. A request that was refused
// is tried again with the new key. URLs are signed by the store's clock where
// this machine's is more than a minute off; see [drivers.Clock].
package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berthhq/berth/drivers"
)

// Limits of multipart uploads, but for those of the whole object, are those of
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html and of
// https://developers.cloudflare.com/r2/platform/limits/.
const (
	minPart   = 5 << 20
	maxPart   = 5 << 30
	maxPartR2 = maxPart - 5<<20
	maxParts  = 10_000
)

// bucket is an open one. Nothing in it changes after Open.
type bucket struct {
	cfg    Config
	prefix string // before every key
	region string

	client    *s3.Client
	clock     *drivers.Clock
	signer    *signer
	closeIdle func()

	newTransport func() *http.Transport // with connections of its own, or nil
	equalParts   bool
	maxPart      int64

	abilities
}

var _ drivers.Bucket = (*bucket)(nil)

// openTimeout bounds what Open asks the store.
const openTimeout = 2 * time.Minute

// Open opens the bucket, and finds out what its store can do: it writes,
// overwrites and deletes objects under parts/. It refuses a store that ignores
// the conditions of writes. An error that a setting mends names it, as
// storage.s3.<setting>; drivers.ErrBusy says that the store can't be reached
// at the moment, and no other sentinel is reported.
func Open(ctx context.Context, cfg Config) (drivers.Bucket, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	b, sdk, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if b.signer, err = newSigner(ctx, &cfg, sdk); err != nil {
		return nil, err
	}
	if b.abilities, err = b.probe(ctx); err != nil {
		b.closeIdle()
		if errors.Is(err, drivers.ErrBusy) && status(err) == 0 {
			err = fmt.Errorf("storage.s3.endpoint: the store does not answer: %w", err)
		}
		return nil, err
	}
	if cfg.Log != nil {
		b.report(cfg.Log)
	}
	return b, nil
}

// report logs where the store is, if berth's configuration does not name it, and
// what the store lacks and berth does without.
func (b *bucket) report(log *slog.Logger) {
	if endpoint := aws.ToString(b.client.Options().BaseEndpoint); endpoint != "" && b.cfg.Endpoint == "" {
		log.Warn("AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the shared AWS configuration names the store's endpoint; storage.s3.endpoint does not",
			slog.String("endpoint", endpoint))
	}
	if b.unchecked {
		log.Warn("the store takes bodies with a wrong checksum: payloads are hashed for the signature instead, which every store compares")
	}
	if b.completeReplaces {
		log.Warn("the store ignores If-None-Match on CompleteMultipartUpload: a completion that arrives very late could bring back data that was collected; see the table of stores in the README")
	}
}

// connect makes a client that has credentials. It knows nothing of the store
// yet, and asks it nothing.
func connect(ctx context.Context, cfg Config) (*bucket, aws.Config, error) {
	if err := cfg.check(); err != nil {
		return nil, aws.Config{}, err
	}
	sdk, err := cfg.load(ctx)
	if err != nil {
		return nil, sdk, err
	}
	if _, err := sdk.Credentials.Retrieve(ctx); err != nil {
		if cfg.RoleARN != "" {
			return nil, sdk, fmt.Errorf("storage.s3.role_arn: no credentials of role %s (the ones it is asked for with need sts:AssumeRole on it, and its trust policy must name them): %w", cfg.RoleARN, err)
		}
		return nil, sdk, fmt.Errorf("no credentials (set storage.s3.access_key_id or storage.s3.profile, or run where the SDK finds some): %w", err)
	}
	b := &bucket{cfg: cfg, prefix: cfg.prefix(), region: sdk.Region, clock: drivers.NewClock(cfg.Log), closeIdle: func() {},
		newTransport: func() *http.Transport { return nil }}
	store := sdk
	if client, ok := sdk.HTTPClient.(*http.Client); ok {
		b.closeIdle = client.CloseIdleConnections
		if transport, ok := client.Transport.(*http.Transport); ok {
			b.newTransport = transport.Clone
		}
		// Only the store's answers: those of the services that give credentials are from other clocks.
		store.HTTPClient = &http.Client{Transport: b.clock.Watch(client.Transport), CheckRedirect: client.CheckRedirect}
	}
	if r, ok := sdk.Credentials.(*refreshing); ok {
		store.Retryer = func() aws.Retryer { return &renewing{cfg.retryer().(aws.RetryerV2), r} }
	}
	b.client = cfg.client(store, cfg.Endpoint)
	r2 := isR2(aws.ToString(b.client.Options().BaseEndpoint))
	b.equalParts, b.maxPart = r2, maxPart
	if r2 {
		b.maxPart = maxPartR2
	}
	if cfg.EqualParts != nil {
		b.equalParts = *cfg.EqualParts
	}
	return b, sdk, nil
}

// Limits are those of Amazon S3, or of Cloudflare R2.
func (b *bucket) Limits() drivers.Limits {
	return drivers.Limits{MinPart: minPart, MaxPart: b.maxPart, MaxParts: maxParts, EqualParts: b.equalParts}
}

// Close closes the connections that are not in use.
func (b *bucket) Close() error {
	b.closeIdle()
	return nil
}

// name is a key's in the bucket.
func (b *bucket) name(key string) *string { return aws.String(b.prefix + key) }

func (b *bucket) bucketName() *string { return aws.String(b.cfg.Bucket) }

func (b *bucket) encryption() types.ServerSideEncryption {
	return types.ServerSideEncryption(b.cfg.SSE)
}

func (b *bucket) kmsKey() *string { return optional(b.cfg.KMSKeyID) }

// optional is a string that is left out if it is empty.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
