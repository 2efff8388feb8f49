package system

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/server"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/redirect/match"
)

// newService returns the service that `berth serve` runs on a bucket without any
// settings, with HTTP/2 and a limit for blobs (zero is none). It is for stores that
// only a test has.
func newService(ctx context.Context, bucket drivers.Bucket, maxBlob int64, log *slog.Logger) (server.Config, error) {
	const requestLimit = 6 * time.Hour
	store, err := blobstore.Open(ctx, bucket, blobstore.Config{
		Log:          log,
		Upload:       blobstore.UploadConfig{MaxBlobSize: maxBlob},
		RequestLimit: requestLimit,
	})
	if err != nil {
		return server.Config{}, err
	}
	api, err := ocihttp.New(store, ocihttp.Config{Log: log})
	if err != nil {
		return server.Config{}, err
	}
	return server.Config{
		API:          api,
		Ping:         store.Ping,
		CutOff:       store.Drain,
		ClientAddr:   match.Proxies{}.Client,
		Log:          log,
		H2C:          true,
		RequestLimit: requestLimit,
		MaxBody:      maxBlob,
		Shutdown:     20 * time.Second,
	}, nil
}

// serveInProcess serves a bucket in the process of the test, until its end.
func serveInProcess(t *testing.T, bucket drivers.Bucket, maxBlob int64) *process {
	t.Helper()
	p := &process{client: &http.Client{Transport: ownTransport()}}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	service, err := newService(ctx, bucket, maxBlob, slog.New(slog.NewTextHandler(&p.stderr, nil)))
	if err != nil {
		stop()
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		stop()
		t.Fatal(err)
	}
	p.url = "http://" + l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l, service) }()
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Errorf("server.Serve: %v\n%s", err, &p.stderr)
		}
	})
	return p
}
