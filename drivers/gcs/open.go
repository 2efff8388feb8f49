// Package gcs is a driver for buckets of Google Cloud Storage.
//
// A tag is the object's generation. GCS never uses a generation twice for one
// name. Every write names the generation that it expects, zero for none.
//
// # Uploads
//
// Over the API of this SDK, GCS has no multipart upload that takes parts in any
// order and from any process. So a part is an object with a name that is unique
// to the attempt, and Complete composes the parts:
//
//	parts/<key>/<upload id>/<number>-<attempt>   a part
//	parts/<key>/<upload id>/node-<first>-<last>  some parts, composed
//
// A compose takes at most 32 sources, so n parts take ⌈(n-1)/31⌉ of them. They
// form a tree; the last one creates the object at the key. The names of the
// nodes depend only on the upload and the numbers of the parts. A node is
// created only if it does not exist, by a request that also deletes its
// sources. So any replica can resume a Complete that another has started.
//
// Some universes do not delete the sources of a compose. Open checks that;
// Complete then lists the sources and deletes them itself.
//
// Uploads returns what is left under parts/ by uploads that were never
// completed and by attempts that no Complete named.
package gcs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/option"
	raw "google.golang.org/api/storage/v1"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/presign"
)

const (
	// maxObject is the size limit of an object, and therefore of a part:
	// https://cloud.google.com/storage/quotas#objects.
	maxObject = 5 << 40

	// maxParts makes a tree of three levels. GCS itself does not limit the
	// number of parts of an object.
	maxParts = 10_000

	// parallel is the number of requests that one call sends at a time.
	parallel = 16
)

// bucket is a bucket of GCS: the objects in it, and the uploads that will become
// objects.
type bucket struct {
	objectStore
	uploadStore
	store  *store
	client *storage.Client
	signer signer
	clock  *presign.Clock
}

var _ drivers.Bucket = (*bucket)(nil)

// Open opens the bucket, and checks that its store supports create-only writes,
// compare-and-swap and conditional deletion. An error names the field of cfg to
// check.
func Open(ctx context.Context, cfg Config) (drivers.Bucket, error) {
	b, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("gcs: open: %w", err)
	}
	if err := b.probe(ctx); err != nil {
		return nil, fmt.Errorf("gcs: open: %w", errors.Join(err, b.Close()))
	}
	if b.keepsSources {
		b.store.cfg.Log.Warn("gcs.Config.Endpoint: this store keeps the parts of a composed object, so berth deletes them one by one; "+
			"a class with a fee for early deletion charges for each", slog.String("endpoint", b.store.cfg.endpoint()))
	}
	if h := b.store.hierarchical(ctx); h.Err == nil && h.Value {
		b.store.cfg.Log.Warn("gcs.Config.Bucket: the bucket has a hierarchical namespace: each upload leaves folders behind, "+
			"which slow down listings; use a bucket without one", slog.String("bucket", cfg.Bucket))
	}
	return b, nil
}

func open(ctx context.Context, cfg Config) (*bucket, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	clock := presign.NewClock(cfg.Log)
	hc, signer, err := connect(ctx, &cfg, clock)
	if err != nil {
		return nil, err
	}
	// The endpoint is always named, so that no variable of the environment
	// points the SDK elsewhere.
	opts := []option.ClientOption{option.WithHTTPClient(hc), option.WithEndpoint(cfg.endpoint() + "/storage/v1/")}
	client, err := storage.NewClient(ctx, opts...)
	if err != nil {
		return nil, err
	}
	// Every request of this driver can be retried.
	client.SetRetry(storage.WithPolicy(storage.RetryAlways), storage.WithBackoff(backoff()), storage.WithMaxAttempts(attempts))
	service, err := raw.NewService(ctx, opts...)
	if err != nil {
		return nil, err
	}
	s := &store{cfg: cfg, prefix: cfg.prefix(), handle: client.Bucket(cfg.Bucket), raw: service}
	return &bucket{
		objectStore: objectStore{s},
		uploadStore: uploadStore{store: s},
		store:       s,
		client:      client,
		signer:      signer,
		clock:       clock,
	}, nil
}

// newTransport returns a transport that speaks only HTTP/1.1: over HTTP/2 all
// parts of all uploads share one connection, and its windows. Its timeouts end
// requests that hang, not slow ones: none applies while a body is sent or read.
func newTransport() http.RoundTripper {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		Protocols:             &protocols,
		MaxIdleConnsPerHost:   128,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute, // from the last byte of a request
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // bytes are returned as stored, never decompressed
	}
}

// Limits returns the limits of GCS. There is no minimum part size: a source of
// a compose may have any size.
func (b *bucket) Limits() drivers.Limits { return limits() }

func limits() drivers.Limits {
	return drivers.Limits{MaxPart: maxObject, MaxParts: maxParts}
}

// Close closes the idle connections. The SDK's own Close does not reach the
// transport below authentication.
func (b *bucket) Close() error {
	(&http.Client{Transport: b.store.cfg.Transport}).CloseIdleConnections()
	return b.client.Close()
}
