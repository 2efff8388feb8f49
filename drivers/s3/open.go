package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/presign"
)

// openTimeout limits the time that Open may spend on requests to the store.
const openTimeout = 2 * time.Minute

// Open opens the bucket and probes what its store can do: it creates,
// overwrites and deletes objects under parts/. Unless the bucket is for data only, it
// returns an error if the store ignores the conditions of writes. If an operator can fix the error with a
// setting, the error names the setting as s3.Config.<Field>. The error wraps
// drivers.ErrBusy if the store can't be reached at the moment, and may wrap
// drivers.ErrRefused or drivers.ErrFull.
func Open(ctx context.Context, cfg Config) (drivers.Bucket, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	c, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	signer, err := newSigner(ctx, &cfg, c.sdk)
	if err != nil {
		return nil, err
	}
	can, err := probe(ctx, c)
	if err != nil {
		c.closeIdle()
		if errors.Is(err, drivers.ErrBusy) && status(err) == 0 {
			err = fmt.Errorf("s3.Config.Endpoint: the store does not answer: %w", err)
		}
		return nil, err
	}
	if cfg.Log != nil {
		warn(cfg.Log, c, can)
	}
	return newBucket(c, signer, can), nil
}

// connection is a store, with the settings and the client that reach it.
type connection struct {
	store     *store
	sdk       aws.Config // with the credentials, also for the signer
	clock     *presign.Clock
	transport http.RoundTripper // of the store's client
	closeIdle func()
}

// connect checks cfg, finds the region and the credentials, and creates the
// client. It makes no request to the store.
func connect(ctx context.Context, cfg Config) (*connection, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	sdk, err := cfg.load(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := sdk.Credentials.Retrieve(ctx); err != nil {
		if cfg.RoleARN != "" {
			return nil, fmt.Errorf("s3.Config.RoleARN: no credentials of role %s (the credentials that assume it need sts:AssumeRole on it, and its trust policy must name them): %w", cfg.RoleARN, err)
		}
		return nil, fmt.Errorf("no credentials (set s3.Config.AccessKeyID or s3.Config.Profile, or run berth where the SDK finds credentials): %w", err)
	}
	forCredentials, ok := sdk.HTTPClient.(*http.Client)
	if !ok {
		return nil, fmt.Errorf("the SDK's HTTP client is a %T", sdk.HTTPClient)
	}
	transport := cfg.Transport
	if transport == nil {
		transport = forCredentials.Transport
	}
	// The clock watches the store's responses only: the services that issue
	// credentials have other clocks.
	clock := presign.NewClock(cfg.Log)
	watched := transport // the probe's racers need a transport that can be cloned
	if cfg.Watch != nil {
		watched = cfg.Watch(transport)
	}
	forStore := &http.Client{Transport: clock.Watch(watched), CheckRedirect: redirects}
	return &connection{
		store:     newStore(&cfg, sdk.Region, cfg.storeClient(sdk, forStore)),
		sdk:       sdk,
		clock:     clock,
		transport: transport,
		closeIdle: func() {
			forStore.CloseIdleConnections()
			forCredentials.CloseIdleConnections()
		},
	}, nil
}

// warn logs the store's endpoint if it does not come from berth's
// configuration, and the capabilities that the store lacks.
func warn(log *slog.Logger, c *connection, can capabilities) {
	if endpoint := c.store.endpoint(); endpoint != "" && c.store.cfg.Endpoint == "" {
		log.Warn("the store's endpoint comes from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the shared AWS configuration, not from s3.Config.Endpoint",
			slog.String("endpoint", endpoint))
	}
	if can.ignoresChecksums {
		log.Warn("the store accepts bodies with a wrong checksum: payloads are hashed for the signature instead, which every store compares")
	}
	if can.completeReplaces {
		log.Warn("the store ignores If-None-Match on CompleteMultipartUpload: a completion that arrives very late could restore data that was collected; see the table of stores in the README")
	}
}
