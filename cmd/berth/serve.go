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
	"strings"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/auth"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/cmd/berth/server"
	"github.com/berthhq/berth/cmd/berth/telemetry"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/redirect"
)

// serve runs the registry with this configuration until ctx ends.
func serve(ctx context.Context, cfg *config.Config, stdout io.Writer, log *slog.Logger) error {
	limitMemory(cfg)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer listener.Close()
	tel, err := telemetry.New(ctx, version())
	if err != nil {
		return err
	}
	defer closeTelemetry(ctx, tel, log)
	watchStore(&cfg.Storage, tel)
	bucket, name, err := openBucket(ctx, cfg.Storage, log)
	if err != nil {
		return err
	}
	defer bucket.Close()
	service, err := newService(ctx, bucket, cfg, tel, log)
	if err != nil {
		return err
	}
	service.Admin.Metrics = tel.Handler()
	if service.Admin.Listener, err = listenAdmin(ctx, cfg.Admin, log); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "berth serves http://%s from %s\n", listener.Addr(), name); err != nil {
		return err
	}
	return server.Serve(ctx, listener, service)
}

// newService opens the store in a bucket, and returns the service that uses it.
func newService(ctx context.Context, bucket drivers.Bucket, cfg *config.Config, tel *telemetry.Telemetry, log *slog.Logger) (server.Config, error) {
	policy, err := redirect.New(cfg.Redirect)
	if err != nil {
		return server.Config{}, err
	}
	store, err := openStore(ctx, bucket, cfg, policy, log)
	if err != nil {
		return server.Config{}, err
	}
	authorizer, err := newAuth(ctx, store, cfg, policy, log)
	if err != nil {
		return server.Config{}, err
	}
	options := cfg.API
	options.Log = log
	if authorizer != nil {
		options.Authorizer = authorizer
	}
	api, err := ocihttp.New(store, options)
	if err != nil {
		return server.Config{}, err
	}
	service := cfg.Server
	service.API = api
	if authorizer != nil {
		service.API = authorizer.Handler(api)
	}
	service.Ping = store.Ping
	service.CutOff = store.Drain
	service.ClientAddr = policy.ClientAddr
	service.Log = log
	service.Begin, service.End = tel.Begin, tel.End
	tel.WatchStore(store.Usage, cfg.Blobs.Upload.Memory, cfg.Blobs.Manifests.Memory)
	return service, nil
}

// newAuth returns what authenticates clients, or nil if every client may do everything.
func newAuth(ctx context.Context, store *blobstore.Store, cfg *config.Config, policy *redirect.Policy, log *slog.Logger) (*auth.Auth, error) {
	env := auth.Environment{Log: log, ClientAddr: policy.ClientAddr, BaseURL: policy.Origin, SetUser: server.SetUser}
	if public := strings.TrimSuffix(cfg.API.PublicURL, "/"); public != "" {
		env.BaseURL = func(*http.Request) string { return public }
	}
	if cfg.Auth.IssuesTokens() {
		var err error
		if env.SigningKey, err = store.SigningKey(ctx); err != nil {
			return nil, err
		}
	}
	return auth.New(ctx, cfg.Auth, env)
}

// watchStore lets tel watch the requests to the configured store.
func watchStore(cfg *config.Storage, tel *telemetry.Telemetry) {
	cfg.S3.Watch, cfg.GCS.Watch, cfg.Azure.Watch = tel.Watch("s3"), tel.Watch("gcs"), tel.Watch("azure")
	if cfg.Data != nil {
		watchStore(cfg.Data, tel)
	}
}

// closeTelemetry sends the traces that are left, for at most closeTimeout.
func closeTelemetry(ctx context.Context, tel *telemetry.Telemetry, log *slog.Logger) {
	const closeTimeout = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := tel.Close(ctx); err != nil {
		log.WarnContext(ctx, "traces were lost", "error", err)
	}
}

// limitMemory sets a memory limit, so that the garbage collector works harder
// instead of letting the heap grow to a multiple of the memory in use. It does
// nothing if GOMEMLIMIT is set in the environment.
func limitMemory(cfg *config.Config) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(cfg.MemoryLimit())
	}
}

// newLogger returns a logger to w with the form and level of cfg.
func newLogger(cfg config.Telemetry, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // config has checked it
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: config.ReplaceAttr}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
