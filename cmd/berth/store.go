package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/gcs"
	"github.com/berthhq/berth/drivers/inspect"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/drivers/s3"
	"github.com/berthhq/berth/drivers/split"
	"github.com/berthhq/berth/redirect"
)

// openTimeout limits how long opening a store may take. A driver sends about sixty
// requests in about ten round trips, in addition to the requests for credentials.
const openTimeout = 30 * time.Second

// openBucket opens the configured store, and returns it with a name for messages.
// The drivers log to log. If the data of blobs is in a bucket of its own, openBucket
// opens both.
func openBucket(ctx context.Context, cfg config.Storage, log *slog.Logger) (bucket drivers.Bucket, name string, err error) {
	bucket, name, err = openDriver(ctx, cfg, log)
	if err != nil || cfg.Data == nil || cfg.Data.Driver == "" {
		return bucket, name, err
	}
	data, dataName, err := openDriver(ctx, *cfg.Data, log.With("bucket", "storage.data"))
	if err != nil {
		err = config.DataError(err)
	} else {
		err = checkSplit(ctx, bucket)
	}
	if err != nil {
		bucket.Close()
		return nil, "", err
	}
	return split.New(bucket, data), name + ", with the data of blobs in " + dataName, nil
}

// checkSplit returns an error if a bucket that is to hold everything except data has
// data. Blobs that were stored before would lose their bytes.
func checkSplit(ctx context.Context, records drivers.Bucket) error {
	for o, err := range records.List(ctx, drivers.BulkPrefix, "", 1) {
		if err != nil {
			return err
		}
		return fmt.Errorf("storage.data.driver: the bucket of storage holds the data of blobs already, such as %s: move the objects under %s to the bucket of storage.data first, or leave storage.data.driver empty", o.Key, drivers.BulkPrefix)
	}
	return nil
}

// openDriver opens one bucket.
func openDriver(ctx context.Context, cfg config.Storage, log *slog.Logger) (bucket drivers.Bucket, name string, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	switch cfg.Driver {
	case "filesystem":
		bucket, err = filesystem.Open(ctx, cfg.Filesystem)
		name = "filesystem " + cfg.Filesystem.Root
	case "s3":
		cfg.S3.Log = log
		bucket, err = s3.Open(ctx, cfg.S3)
		name = "s3 " + cfg.S3.Bucket
	case "gcs":
		cfg.GCS.Log = log
		bucket, err = gcs.Open(ctx, cfg.GCS)
		name = "gcs " + cfg.GCS.Bucket
	case "azure":
		cfg.Azure.Log = log
		bucket, err = azure.Open(ctx, cfg.Azure)
		name = "azure " + cfg.Azure.Container
	case "memory":
		bucket, err = memory.Open(ctx, memory.Config{})
		name = "memory, which loses everything when berth ends"
	default:
		return nil, "", &config.Error{Problems: []string{fmt.Sprintf(
			"storage.driver: %q: want filesystem, s3, gcs, azure or memory", cfg.Driver)}}
	}
	switch timedOut := errors.Is(ctx.Err(), context.DeadlineExceeded); {
	case err != nil && timedOut && cfg.Driver == "filesystem":
		return nil, "", fmt.Errorf("storage.filesystem.root: the file system did not answer in time; check its mount: %w", err)
	case err != nil && timedOut:
		return nil, "", fmt.Errorf("storage.%s.endpoint: the store did not answer in time; check the endpoint, firewalls and proxies: %w", cfg.Driver, err)
	case err != nil:
		return nil, "", fmt.Errorf("storage.%s: %w", cfg.Driver, err)
	}
	return bucket, name, nil
}

// inspectBucket returns the settings of the configured bucket. It returns
// errors.ErrUnsupported unless the driver is that of a cloud.
func inspectBucket(ctx context.Context, cfg config.Storage) (inspect.Settings, error) {
	switch cfg.Driver {
	case "s3":
		return s3.Inspect(ctx, cfg.S3)
	case "gcs":
		return gcs.Inspect(ctx, cfg.GCS)
	case "azure":
		return azure.Inspect(ctx, cfg.Azure)
	default:
		return inspect.Settings{}, errors.ErrUnsupported
	}
}

// openStore opens the store in a bucket. Its reads are redirected by policy.
// openStore returns an error if policy is unsafe with the URLs of the bucket.
func openStore(ctx context.Context, bucket drivers.Bucket, cfg *config.Config, policy *redirect.Policy, log *slog.Logger) (*blobstore.Store, error) {
	if err := policy.Check(ctx, bucket); err != nil {
		return nil, err
	}
	blobs := cfg.Blobs
	blobs.Log, blobs.Redirect = log, policy
	return blobstore.Open(ctx, bucket, blobs)
}
