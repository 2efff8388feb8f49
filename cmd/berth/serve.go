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

	"github.com/berthhq/berth/blobstore/blobhttp"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers"
)

// serve serves blobs as cfg says, until ctx ends.
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

// service is what berth serves.
type service struct {
	handler http.Handler
	drain   func() // cuts off the uploads that are left, and keeps what they have sent
}

// openService opens the service on a bucket. It is not ready any more once ctx
// ends.
func openService(ctx context.Context, bucket drivers.Bucket, cfg *config.Config, log *slog.Logger) (*service, error) {
	policy, err := cfg.RedirectPolicy()
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, bucket, cfg, policy, log)
	if err != nil {
		return nil, err
	}
	api, err := blobhttp.New(store, blobhttp.Config{
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

// baseMemory is what berth needs besides the buffers of uploads and the cache,
// in bytes: connections, requests, parts of listings, and room for the
// collector to let garbage grow.
const baseMemory = 128 << 20

// cacheEntry is about what an entry of the cache takes, in bytes.
const cacheEntry = 1 << 10

// limitMemory makes the garbage collector work harder rather than let the heap
// grow to a multiple of what is in use. A GOMEMLIMIT in the environment says
// otherwise.
func limitMemory(cfg *config.Config) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(cfg.Upload.Memory + int64(cfg.Cache.Entries)*cacheEntry + baseMemory)
	}
}
