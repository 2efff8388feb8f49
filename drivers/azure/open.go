// Package azure is a driver for containers of Azure Blob Storage.
//
// Every key is a block blob. The service itself supports create-only writes
// (If-None-Match) and compare-and-swap (If-Match), and every read that follows a
// write returns it. [Open] checks the conditions, and refuses a store without them.
//
// # Uploads
//
// An upload is a blob with staged blocks (Put Block) until Complete commits a
// list of them (Put Block List, If-None-Match: *). Starting an upload takes no
// request, because its id is a random number, which is part of the ids of its
// blocks. A block id is 21 bytes: two for the part's number, eight for the
// upload, and eleven that are random for each attempt. The part's tag is that
// id. So a repeated part does not replace the earlier one, and a list names
// exactly the blocks that it means. All ids have the same length, as the
// service requires.
//
// Abort does nothing. The service drops the blocks of an upload a week after
// the last one was staged
// (https://learn.microsoft.com/rest/api/storageservices/put-block), so a
// session must not last longer than six days.
//
// # Bodies and retries
//
// One pass over a body compares its CRC-32C and computes its CRC-64. The
// service compares the CRC-64 with the bytes that it stored
// (x-ms-content-crc64). Each try of a request reads the body through a separate
// reader, and no reader is used after the call has returned.
//
// The SDK retries requests, even conditional ones, so a retry may find the
// effect of an earlier try. If a retried write is refused, the driver reads the
// blob: if it has the write's bytes, the write has succeeded, and otherwise its
// outcome is unknown.
package azure

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/presign"
)

// bucket is a container: the blobs in it, and the uploads that will become blobs.
type bucket struct {
	objectStore
	uploadStore
	store   *store
	service *service.Client
	sign    *signer
	client  *http.Client
	clock   *presign.Clock
}

var _ drivers.Bucket = (*bucket)(nil)

// Open opens the container that cfg names. It creates, replaces and deletes one
// small blob under parts/, to check that the service can be reached, that it
// grants access, and that it supports conditions. An error names the field of
// cfg to check.
func Open(ctx context.Context, cfg Config) (drivers.Bucket, error) {
	b, err := newBucket(cfg)
	if err != nil {
		return nil, fmt.Errorf("azure: %w", err)
	}
	if err := b.store.probe(ctx); err != nil {
		b.client.CloseIdleConnections()
		if errors.Is(err, drivers.ErrBusy) {
			err = fmt.Errorf("azure.Config.Endpoint: %w", err)
		}
		return nil, fmt.Errorf("azure: open container %s: %w", cfg.Container, err)
	}
	return b, nil
}

func newBucket(cfg Config) (*bucket, error) {
	if cfg.Container == "" {
		return nil, errors.New("azure.Config.Container: name a container")
	}
	account, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	prefix, err := cfg.prefix()
	if err != nil {
		return nil, err
	}
	tier, err := cfg.tier()
	if err != nil {
		return nil, err
	}
	public := account.endpoint
	if cfg.PublicEndpoint != "" {
		if public, err = parseEndpoint("azure.Config.PublicEndpoint", cfg.PublicEndpoint); err != nil {
			return nil, err
		}
	}
	transport := cfg.Transport
	if transport == nil {
		transport = newTransport()
	}
	if cfg.Watch != nil {
		transport = cfg.Watch(transport)
	}
	clock := presign.NewClock(cfg.Log)
	client := &http.Client{Transport: clock.Watch(transport), CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the service never redirects; a captive portal does
	}}
	options := policy.ClientOptions{
		Transport:        client,
		Telemetry:        policy.TelemetryOptions{ApplicationID: "berth"},
		PerCallPolicies:  []policy.Policy{account.version},
		PerRetryPolicies: []policy.Policy{eachTry{}},
		Retry:            policy.RetryOptions{MaxRetries: 3, RetryDelay: 300 * time.Millisecond, MaxRetryDelay: 10 * time.Second},
	}
	s := &store{account: account, prefix: prefix, tier: tier, scope: cfg.scope(), pageSize: maxResults}
	if s.container, err = account.open(cfg.Container, options); err != nil {
		return nil, fmt.Errorf("azure.Config.Endpoint: %w", err)
	}
	if cfg.pageSize > 0 {
		s.pageSize = cfg.pageSize
	}
	service, err := account.openService(options)
	if err != nil {
		return nil, fmt.Errorf("azure.Config.Endpoint: %w", err)
	}
	sign := &signer{account: account, container: cfg.Container, public: public}
	if account.identity != nil {
		sign.delegated = newDelegation(account, service)
	}
	return &bucket{
		objectStore: objectStore{s},
		uploadStore: uploadStore{s},
		store:       s,
		service:     service,
		sign:        sign,
		client:      client,
		clock:       clock,
	}, nil
}

// open returns the SDK's client of a container, with the account's credential.
func (a *account) open(name string, options policy.ClientOptions) (*container.Client, error) {
	url := a.endpoint.JoinPath(name)
	opts := &container.ClientOptions{ClientOptions: options}
	switch {
	case a.key != nil:
		return container.NewClientWithSharedKeyCredential(url.String(), a.key, opts)
	case a.sas != "":
		url.RawQuery = a.sas
		return container.NewClientWithNoCredential(url.String(), opts)
	default:
		return container.NewClient(url.String(), a.identity, opts)
	}
}

// openService returns the SDK's client of the account, with its credential.
func (a *account) openService(options policy.ClientOptions) (*service.Client, error) {
	url := a.endpoint.JoinPath("/")
	opts := &service.ClientOptions{ClientOptions: options}
	switch {
	case a.key != nil:
		return service.NewClientWithSharedKeyCredential(url.String(), a.key, opts)
	case a.sas != "":
		url.RawQuery = a.sas
		return service.NewClientWithNoCredential(url.String(), opts)
	default:
		return service.NewClient(url.String(), a.identity, opts)
	}
}

// newTransport returns a transport for one host. The timeouts end requests that
// hang, not slow ones: none applies while a body is sent or read.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
	}
}

// probePrefix starts the keys of the probe's blobs.
const probePrefix = drivers.PartsPrefix + "probe/"

// probe checks the features that the bucket relies on, in six requests and one
// for checkFlat. It uses the access tier of data, which not every account supports.
// The fee for the early deletion of so few bytes is less than the price of the
// requests.
func (s *store) probe(ctx context.Context) error {
	key := probePrefix + rand.Text()
	first, second := drivers.NewBody([]byte(rand.Text())), drivers.NewBody([]byte(rand.Text()))
	created, err := s.create(ctx, key, first)
	if err != nil {
		return s.explain(ctx, err)
	}
	refuse := func(what, danger string, err, want error) error {
		if errors.Is(err, want) {
			return nil
		}
		if err == nil {
			return fmt.Errorf("azure.Config.Endpoint: this store ignores %s: %s, so berth does not serve from it", what, danger)
		}
		return fmt.Errorf("%s that must be refused: %w", what, s.explain(ctx, err))
	}
	_, err = s.create(ctx, key, second)
	if err := refuse("If-None-Match: * on Put Blob (create-only)", "two uploads could overwrite each other", err, drivers.ErrExists); err != nil {
		return err
	}
	replaced, err := s.replace(ctx, key, created.Tag, second)
	if err != nil {
		return s.explain(ctx, err)
	}
	_, err = s.replace(ctx, key, created.Tag, first)
	if err := refuse("If-Match on Put Blob (compare-and-swap)", "a push and the collector could overwrite each other", err, drivers.ErrChanged); err != nil {
		return err
	}
	err = s.deleteIf(ctx, key, created.Tag)
	if err := refuse("If-Match on Delete Blob", "a late deletion could delete a blob that was pushed in the meantime", err, drivers.ErrChanged); err != nil {
		return err
	}
	if err := s.checkFlat(ctx, strings.TrimSuffix(probePrefix, "/")); err != nil {
		return err
	}
	return s.explain(ctx, s.deleteIf(ctx, key, replaced.Tag))
}

// checkFlat returns an error if the parent of a blob exists as well. In an account
// with a hierarchical namespace, listings contain directories.
func (s *store) checkFlat(ctx context.Context, above string) error {
	_, err := s.stat(ctx, above)
	if err == nil {
		return fmt.Errorf("azure.Config.Account: %q has a hierarchical namespace, whose directories are listed like blobs; "+
			"use an account without one", s.name)
	}
	if err = s.explain(ctx, err); errors.Is(err, drivers.ErrNotFound) {
		return nil
	}
	return err
}

// Limits returns the limits of block blobs:
// https://learn.microsoft.com/rest/api/storageservices/understanding-block-blobs--append-blobs--and-page-blobs.
func (b *bucket) Limits() drivers.Limits { return limits() }

func limits() drivers.Limits {
	return drivers.Limits{MaxPart: maxBlock, MaxParts: maxBlocks}
}

const (
	maxBlock  = 4000 << 20 // bytes
	maxBlocks = 50_000     // in a blob
	maxBatch  = 256        // requests in one batch
)

// Close closes the idle connections. It always returns nil.
func (b *bucket) Close() error {
	b.client.CloseIdleConnections()
	return nil
}

// check returns an error if a key is not valid, or the context's error.
func check(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := drivers.CheckKey(key); err != nil {
			return err
		}
	}
	return ctx.Err()
}
