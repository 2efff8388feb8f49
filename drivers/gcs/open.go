// Package gcs keeps objects in a bucket of Google Cloud Storage.
//
// A tag is the object's generation, which GCS never gives twice to one name.
// Every write names the generation that it expects, zero for none.
//
// # Uploads
//
// GCS has no multipart upload whose parts come in any order and from anywhere,
// over the API of this SDK. So a part is an object, under a name that no other
// attempt has, and Complete composes them:
//
//	parts/<key>/<upload id>/<number>-<attempt>   a part
//	parts/<key>/<upload id>/node-<first>-<last>  some parts, composed
//
// A compose takes at most 32 sources, so n parts take ⌈(n-1)/31⌉ of them, in a
// tree, the last of which makes the object at the key. The names of the nodes
// follow from the upload and the numbers of the parts alone, and each is made
// only if it is not there, by a request that deletes what it was made of: so
// whoever completes the upload goes on where another stopped. See complete.
//
// A store may ignore that a compose is to delete its sources, as some universes
// do. Open tries that, and Complete then lists and deletes them itself.
//
// What is left below parts/, by uploads that were never completed and by
// attempts that nobody named, is what Uploads gives.
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
)

const (
	// maxObject is the largest object, and so the largest part:
	// https://cloud.google.com/storage/quotas#objects.
	maxObject = 5 << 40

	// maxParts makes a tree of three levels. GCS itself sets no limit to the
	// parts that an object is composed of.
	maxParts = 10_000

	// parallel is how many requests one call makes at a time.
	parallel = 16
)

type bucket struct {
	cfg    Config
	prefix string
	client *storage.Client
	handle *storage.BucketHandle
	raw    *raw.Service // for what the client cannot ask for
	signer signer
	clock  *drivers.Clock

	// keepsSources is whether the store ignores that a compose is to delete its
	// sources, as some universes do.
	keepsSources bool
}

var _ drivers.Bucket = (*bucket)(nil)

// Open opens the bucket, and proves that it keeps to create-only, to
// compare-and-swap and to conditional deletion. An error names the setting of
// the configuration that is to be looked at.
func Open(ctx context.Context, cfg Config) (drivers.Bucket, error) {
	b, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("gcs: open: %w", err)
	}
	if err := b.probe(ctx); err != nil {
		return nil, fmt.Errorf("gcs: open: %w", errors.Join(err, b.Close()))
	}
	if b.keepsSources {
		b.cfg.Log.Warn("storage.gcs.endpoint: this store leaves the parts that a blob was composed of, so berth deletes them one by one; "+
			"a class with a fee for early deletion charges for each", slog.String("endpoint", b.cfg.endpoint()))
	}
	if h := b.hierarchical(ctx); h.Err == nil && h.Value {
		b.cfg.Log.Warn("storage.gcs.bucket: the bucket has a hierarchical namespace: each upload leaves folders behind, "+
			"which slow down listings; use a bucket without one", slog.String("bucket", cfg.Bucket))
	}
	return b, nil
}

func open(ctx context.Context, cfg Config) (*bucket, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	clock := drivers.NewClock(cfg.Log)
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
	// Whatever this driver asks for can be asked for again.
	client.SetRetry(storage.WithPolicy(storage.RetryAlways), storage.WithBackoff(backoff()), storage.WithMaxAttempts(attempts))
	service, err := raw.NewService(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return &bucket{
		cfg:    cfg,
		prefix: cfg.prefix(),
		client: client,
		handle: client.Bucket(cfg.Bucket),
		raw:    service,
		signer: signer,
		clock:  clock,
	}, nil
}

// newTransport speaks HTTP/1.1 only: over HTTP/2 all parts of all uploads share
// one connection, and its windows. Its timeouts end what hangs, not what is
// slow: none counts while a body is being sent or read.
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
		DisableCompression:    true, // bytes are what was stored, never what was inflated
	}
}

// name is the object's name in the bucket.
func (b *bucket) name(key string) string { return b.prefix + key }

// Limits are those of GCS. There is no least part: a source of a compose may
// have any size.
func (b *bucket) Limits() drivers.Limits {
	return drivers.Limits{MaxPart: maxObject, MaxParts: maxParts}
}

// Close closes the connections that are not in use. The SDK's own Close gets no
// further than the transport that authenticates.
func (b *bucket) Close() error {
	(&http.Client{Transport: b.cfg.Transport}).CloseIdleConnections()
	return b.client.Close()
}
