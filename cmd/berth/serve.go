package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"

	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers"
)

// serve serves blobs with this configuration until ctx ends.
func serve(ctx context.Context, cfg *config.Config, stdout io.Writer, log *slog.Logger) error {
	limitMemory(cfg)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen.Address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer listener.Close()
	bucket, name, err := openBucket(ctx, cfg.Storage, log)
	if err != nil {
		return err
	}
	defer bucket.Close()
	s, err := openService(ctx, bucket, cfg, log)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "berth serves http://%s from %s\n", listener.Addr(), name); err != nil {
		return err
	}
	return serveHTTP(ctx, listener, s.handler, cfg, s.drain, log)
}

// service is the HTTP service of a bucket.
type service struct {
	handler http.Handler
	drain   func() // cuts off the remaining uploads, and keeps what they have sent
}

// openService opens the service on a bucket. When ctx ends, /readyz reports that
// it is no longer ready.
func openService(ctx context.Context, bucket drivers.Bucket, cfg *config.Config, log *slog.Logger) (*service, error) {
	policy, err := cfg.RedirectPolicy()
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, bucket, cfg, policy, log)
	if err != nil {
		return nil, err
	}
	api, err := ocihttp.New(store, ocihttp.Config{
		Log:           log,
		PublicURL:     cfg.PublicURL,
		DisableDelete: !cfg.Delete.Enabled,
	})
	if err != nil {
		return nil, err
	}
	handler := health(ctx, crossOrigin(api, cfg.HTTP.CORS), newReadiness(store.Ping, log))
	return &service{logged(handler, policy.ClientAddr, log), store.Drain}, nil
}

// baseMemory is the memory that berth needs besides the buffers of uploads and
// the cache, in bytes: connections, requests, parts of listings, and room for
// garbage between two runs of the garbage collector.
const baseMemory = 128 << 20

// cacheEntry is the approximate size of an entry of the cache, in bytes.
const cacheEntry = 1 << 10

// limitMemory sets a memory limit, so that the garbage collector works harder
// instead of letting the heap grow to a multiple of the memory in use. It does
// nothing if GOMEMLIMIT is set in the environment.
func limitMemory(cfg *config.Config) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(cfg.Upload.Memory + int64(cfg.Cache.Entries)*cacheEntry + baseMemory)
	}
}
