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
	"github.com/berthhq/berth/redirect"
)

// openTimeout limits how long opening a store may take: some sixty requests, in
// about ten round trips, and the requests for credentials.
const openTimeout = 30 * time.Second

// openBucket opens the store that the configuration names, and returns it with a
// name for people. The driver logs to log.
func openBucket(ctx context.Context, cfg config.Storage, log *slog.Logger) (bucket drivers.Bucket, name string, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	switch cfg.Driver {
	case "filesystem":
		bucket, err = filesystem.Open(ctx, filesystem.Config{Root: cfg.Filesystem.Root, Prefix: cfg.Prefix})
		name = "filesystem " + cfg.Filesystem.Root
	case "s3":
		c := s3Config(cfg)
		c.Log = log
		bucket, err = s3.Open(ctx, c)
		name = "s3 " + cfg.S3.Bucket
	case "gcs":
		c := gcsConfig(cfg)
		c.Log = log
		bucket, err = gcs.Open(ctx, c)
		name = "gcs " + cfg.GCS.Bucket
	case "azure":
		c := azureConfig(cfg)
		c.Log = log
		bucket, err = azure.Open(ctx, c)
		name = "azure " + cfg.Azure.Container
	case "memory":
		bucket, err = memory.Open(ctx, memory.Config{})
		name = "memory, which forgets everything at the end"
	default:
		return nil, "", &config.Error{Problems: []string{fmt.Sprintf(
			"storage.driver: %q is not built into this berth: want filesystem, s3, gcs, azure or memory", cfg.Driver)}}
	}
	switch timedOut := errors.Is(ctx.Err(), context.DeadlineExceeded); {
	case err != nil && timedOut && cfg.Driver == "filesystem":
		return nil, "", fmt.Errorf("storage.filesystem.root: the file system has not answered in time (check its mount): %w", err)
	case err != nil && timedOut:
		return nil, "", fmt.Errorf("storage.%s.endpoint: the store has not answered in time (check it, and firewalls and proxies on the way): %w", cfg.Driver, err)
	case err != nil:
		return nil, "", fmt.Errorf("storage.%s: %w", cfg.Driver, err)
	}
	return bucket, name, nil
}

// inspectBucket returns the settings of the bucket that the configuration names.
// It returns errors.ErrUnsupported for drivers of no cloud.
func inspectBucket(ctx context.Context, cfg config.Storage) (inspect.Settings, error) {
	switch cfg.Driver {
	case "s3":
		return s3.Inspect(ctx, s3Config(cfg))
	case "gcs":
		return gcs.Inspect(ctx, gcsConfig(cfg))
	case "azure":
		return azure.Inspect(ctx, azureConfig(cfg))
	default:
		return inspect.Settings{}, errors.ErrUnsupported
	}
}

func s3Config(cfg config.Storage) s3.Config {
	retries := cfg.S3.Retries
	if retries == 0 {
		retries = -1 // none; package s3 uses its default for zero
	}
	var equalParts *bool // nil: the driver decides by the endpoint
	if cfg.S3.EqualParts != "auto" {
		equalParts = new(cfg.S3.EqualParts == "true")
	}
	headers := make(map[string]string)
	for name, value := range cfg.S3.Headers {
		headers[name] = *value
	}
	return s3.Config{
		Bucket:          cfg.S3.Bucket,
		Prefix:          cfg.Prefix,
		Region:          cfg.S3.Region,
		Endpoint:        cfg.S3.Endpoint,
		PathStyle:       cfg.S3.PathStyle,
		AccessKeyID:     cfg.S3.AccessKeyID,
		SecretAccessKey: cfg.S3.SecretAccessKey,
		SessionToken:    cfg.S3.SessionToken,
		Profile:         cfg.S3.Profile,
		RoleARN:         cfg.S3.RoleARN,
		PublicEndpoint:  cfg.S3.PublicEndpoint,
		SSE:             cfg.S3.SSE,
		KMSKeyID:        cfg.S3.KMSKeyID,
		StorageClass:    cfg.S3.StorageClass,
		Checksum:        cfg.S3.Checksum,
		EqualParts:      equalParts,
		Headers:         headers,
		Accelerate:      cfg.S3.Accelerate,
		DualStack:       cfg.S3.DualStack,
		FIPS:            cfg.S3.FIPS,
		Retries:         retries,
		Connections:     cfg.S3.Connections,

		CAFile:              cfg.S3.CAFile,
		ExpectedBucketOwner: cfg.S3.ExpectedBucketOwner,
		RequestPayer:        cfg.S3.RequestPayer,
	}
}

func gcsConfig(cfg config.Storage) gcs.Config {
	return gcs.Config{
		Bucket:          cfg.GCS.Bucket,
		Prefix:          cfg.Prefix,
		Endpoint:        cfg.GCS.Endpoint,
		PublicEndpoint:  cfg.GCS.PublicEndpoint,
		CredentialsFile: cfg.GCS.CredentialsFile,
		SignAs:          cfg.GCS.SignAs,
		UniverseDomain:  cfg.GCS.UniverseDomain,
		StorageClass:    cfg.GCS.StorageClass,
		KMSKey:          cfg.GCS.KMSKey,
	}
}

func azureConfig(cfg config.Storage) azure.Config {
	return azure.Config{
		Account:          cfg.Azure.Account,
		Container:        cfg.Azure.Container,
		Prefix:           cfg.Prefix,
		Endpoint:         cfg.Azure.Endpoint,
		SharedKey:        cfg.Azure.SharedKey,
		ConnectionString: cfg.Azure.ConnectionString,
		SAS:              cfg.Azure.SAS,
		PublicEndpoint:   cfg.Azure.PublicEndpoint,
		AccessTier:       cfg.Azure.AccessTier,
		EncryptionScope:  cfg.Azure.EncryptionScope,
		APIVersion:       cfg.Azure.APIVersion,
	}
}

// openStore opens the blob store in a bucket, with policy for redirects. It
// returns an error if policy is unsafe with the URLs that the bucket signs.
func openStore(ctx context.Context, bucket drivers.Bucket, cfg *config.Config, policy *redirect.Policy, log *slog.Logger) (*blobstore.Store, error) {
	if err := policy.Check(ctx, bucket); err != nil {
		return nil, err
	}
	entries := cfg.Cache.Entries
	if entries == 0 {
		entries = -1 // none; package blobstore uses its default for zero
	}
	return blobstore.Open(ctx, bucket, blobstore.Config{
		Log:       log,
		InlineMax: cfg.Storage.InlineMax,
		Upload: blobstore.UploadConfig{
			Memory:          cfg.Upload.Memory,
			PartSize:        cfg.Upload.PartSize,
			ParallelParts:   cfg.Upload.ParallelParts,
			SessionLifetime: cfg.Upload.SessionLifetime,
			MaxWaiting:      cfg.Upload.MaxWaiting,
			MaxBlobSize:     cfg.Upload.MaxBlobSize,
		},
		Cache:        blobstore.CacheConfig{Entries: entries, TTL: cfg.Cache.TTL},
		RequestLimit: cfg.Limits.Request,
		Grace:        cfg.GC.Grace,
		Redirect:     policy,
	})
}
