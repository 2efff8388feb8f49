// Package s3 is a driver for Amazon S3 and for stores that speak its protocol.
//
// # Requirements
//
// Create-only writes (If-None-Match: *) and compare-and-swap (If-Match) carry
// all of berth's protocol, so the bucket must have one authoritative region.
// [Open] tries both with several concurrent writers. It refuses a store that
// ignores a condition, or checks it in one step and writes in another.
// Everything else is probed by Open and worked around:
//
//   - If the store has no conditional delete, or versitygw's, which is not
//     atomic, DeleteIf overwrites the object with an empty one, using If-Match.
//     From then on every process treats empty objects as absent. A marker
//     object under parts/ records this.
//   - If parts with equal bytes have different ETags, as with SSE-KMS, parts
//     carry SHA-256, and a part's tag contains it after the ETag. With it
//     Complete finds the attempt at a part that the store has kept.
//   - If the store accepts the CRC-32C of a whole multipart object, Complete
//     sends it. Otherwise the store checks only the CRC-32C of each part.
//   - If the store accepts a body with a wrong checksum, payloads are hashed
//     for the signature (x-amz-content-sha256), which every store compares.
//   - If the store ignores If-None-Match on CompleteMultipartUpload, Open logs
//     a warning: a data key is completed once, but a Complete that arrives late
//     could restore data that was collected.
//   - Cloudflare R2, recognized by its host, requires parts of equal size.
//     Tigris requires [consistentHeader] for conditions that hold in all of its
//     regions.
//
// # Bytes and their checksums
//
// Bodies are read once, from the caller's memory, and are sent with the CRC-32C
// that the caller computed. They are not hashed for the signature
// (UNSIGNED-PAYLOAD), not even over plain HTTP. A tag is the ETag.
//
// # Errors
//
// The SDK retries requests. If the answer to an attempt was lost and the
// condition fails on the next attempt, the outcome is unknown, and the error
// wraps neither ErrExists nor ErrChanged. An error that no retry fixes starts
// with the setting that fixes it.
//
// # Credentials and the clock
//
// Shared credential files are checked every few seconds. They are read again if
// they have changed or if the store has refused the key. A refused request is
// retried with the new key. URLs are signed by the store's clock if this
// machine's clock is more than a minute off; see [presign.Clock].
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
	"github.com/berthhq/berth/drivers/presign"
)

// Limits of multipart uploads, except the size of the whole object, are from
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html and
// https://developers.cloudflare.com/r2/platform/limits/.
const (
	minPart   = 5 << 20
	maxPart   = 5 << 30
	maxPartR2 = maxPart - 5<<20
	maxParts  = 10_000
)

// bucket is an open bucket. It does not change after Open.
type bucket struct {
	cfg    Config
	prefix string // before every key
	region string

	client    *s3.Client
	clock     *presign.Clock
	signer    *signer
	closeIdle func()

	newTransport func() *http.Transport // with connections of its own, or nil
	equalParts   bool
	maxPart      int64

	abilities
}

var _ drivers.Bucket = (*bucket)(nil)

// openTimeout limits the time that Open may spend on requests to the store.
const openTimeout = 2 * time.Minute

// Open opens the bucket and probes what its store can do: it creates,
// overwrites and deletes objects under parts/. It returns an error if the store
// ignores the conditions of writes. An error that a setting fixes names it, as
// storage.s3.<setting>. It may wrap drivers.ErrBusy, if the store can't be
// reached at the moment, drivers.ErrRefused or drivers.ErrFull.
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

// report logs the store's endpoint if it does not come from berth's
// configuration, and the abilities that the store lacks.
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

// connect returns a bucket that has credentials. It makes no request to the
// store, so the bucket's abilities are not set yet.
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
	b := &bucket{cfg: cfg, prefix: cfg.prefix(), region: sdk.Region, clock: presign.NewClock(cfg.Log), closeIdle: func() {},
		newTransport: func() *http.Transport { return nil }}
	store := sdk
	if client, ok := sdk.HTTPClient.(*http.Client); ok {
		b.closeIdle = client.CloseIdleConnections
		if transport, ok := client.Transport.(*http.Transport); ok {
			b.newTransport = transport.Clone
		}
		// Only the store's answers: the services that issue credentials have
		// other clocks.
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

// Limits returns the limits of Amazon S3 or of Cloudflare R2.
func (b *bucket) Limits() drivers.Limits {
	return drivers.Limits{MinPart: minPart, MaxPart: b.maxPart, MaxParts: maxParts, EqualParts: b.equalParts}
}

// Close closes the idle connections. It always returns nil.
func (b *bucket) Close() error {
	b.closeIdle()
	return nil
}

// name returns the name of a key in the bucket.
func (b *bucket) name(key string) *string { return aws.String(b.prefix + key) }

func (b *bucket) bucketName() *string { return aws.String(b.cfg.Bucket) }

func (b *bucket) encryption() types.ServerSideEncryption {
	return types.ServerSideEncryption(b.cfg.SSE)
}

func (b *bucket) kmsKey() *string { return optional(b.cfg.KMSKeyID) }

// optional returns nil for an empty string, so that it is left out.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
