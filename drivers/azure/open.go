// Package azure keeps a bucket in a container of Azure Blob Storage.
//
// Every key is a block blob. The service itself makes a write only-if-absent
// and compares ETags (If-None-Match, If-Match), and reads what was written at
// once. [Open] tries that out, and refuses a store without it.
//
// # Uploads
//
// An upload is a blob that has staged blocks (Put Block) until Complete commits
// a list of them (Put Block List, If-None-Match: *). To begin one takes no
// request: its id is a random number that its blocks carry in their ids. A block
// id is 21 bytes, two of the part's number, eight of the upload and eleven that
// are drawn for each attempt, and the part's tag is that id: a part that is put
// again stands beside the one before, and a list names exactly the blocks that
// it means. All ids have one length, as the service wants of a blob.
//
// Nothing is ever aborted: the service drops the blocks of an upload a week
// after the last one came
// (https://learn.microsoft.com/rest/api/storageservices/put-block), and so a
// session must not last longer than six days.
//
// # What is sent
//
// A body's CRC-32C is compared with its bytes in the same pass that computes
// the CRC-64 which the service then compares with what it stored
// (x-ms-content-crc64). Each try of a request reads the body from a reader of
// its own, and none reads it once the call has returned.
//
// The SDK repeats requests, conditional ones too, so that one may meet its own
// effect. A write that is refused after it was repeated looks at what is there:
// if these are its bytes, it has succeeded, and otherwise nothing is claimed.
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
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/berthhq/berth/drivers"
)

// bucket is a container. Its own methods take keys, and hand names of blobs to
// the SDK.
type bucket struct {
	*account
	container *container.Client
	name      string // of the container
	prefix    string // of the names of blobs
	tier      *blob.AccessTier
	scope     *blob.CPKScopeInfo
	service   *service.Client
	sign      *signer
	client    *http.Client
	clock     *drivers.Clock
	pageSize  *int32 // of listings; the service's own if nil
}

var _ drivers.Bucket = (*bucket)(nil)

// Open opens the container that cfg names. It makes, replaces and deletes one
// small blob under parts/, to see that the service can be reached and allows
// it, and that it keeps to its conditions. An error says which key of the
// configuration to look at.
func Open(ctx context.Context, cfg Config) (drivers.Bucket, error) {
	b, err := newBucket(cfg)
	if err != nil {
		return nil, fmt.Errorf("azure: %w", err)
	}
	if err := b.probe(ctx); err != nil {
		b.client.CloseIdleConnections()
		if errors.Is(err, drivers.ErrBusy) {
			err = fmt.Errorf("storage.azure.endpoint: %w", err)
		}
		return nil, fmt.Errorf("azure: open container %s: %w", cfg.Container, err)
	}
	return b, nil
}

func newBucket(cfg Config) (*bucket, error) {
	if cfg.Container == "" {
		return nil, errors.New("storage.azure.container: name a container")
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
		if public, err = parseEndpoint("storage.azure.public_endpoint", cfg.PublicEndpoint); err != nil {
			return nil, err
		}
	}
	transport := cfg.Transport
	if transport == nil {
		transport = newTransport()
	}
	clock := drivers.NewClock(cfg.Log)
	b := &bucket{
		account: account, name: cfg.Container, prefix: prefix, tier: tier, scope: cfg.scope(),
		clock: clock,
		client: &http.Client{Transport: clock.Watch(transport), CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the service never redirects, and a captive portal is not to be believed
		}},
	}
	options := policy.ClientOptions{
		Transport:        b.client,
		Telemetry:        policy.TelemetryOptions{ApplicationID: "berth"},
		PerCallPolicies:  []policy.Policy{account.version},
		PerRetryPolicies: []policy.Policy{eachTry{}},
		Retry:            policy.RetryOptions{MaxRetries: 3, RetryDelay: 300 * time.Millisecond, MaxRetryDelay: 10 * time.Second},
	}
	if b.container, err = account.open(cfg.Container, options); err != nil {
		return nil, fmt.Errorf("storage.azure.endpoint: %w", err)
	}
	if cfg.pageSize > 0 {
		b.pageSize = &cfg.pageSize
	}
	if b.service, err = account.openService(options); err != nil {
		return nil, fmt.Errorf("storage.azure.endpoint: %w", err)
	}
	b.sign = &signer{account: account, container: cfg.Container, public: public}
	if account.identity != nil {
		b.sign.delegated = newDelegation(account, b.service)
	}
	return b, nil
}

// open makes the SDK's client of a container, with the account's credential.
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

// openService makes the SDK's client of the account, with its credential.
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

// newTransport is a transport for one host. The timeouts end what hangs, not
// what is slow: none counts while a body is being sent or read.
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

// probePrefix begins the keys of what is tried out.
const probePrefix = drivers.PartsPrefix + "probe/"

// probe tries what the bucket relies on, in six requests and one more. They are
// made in the access tier of data, which not every account has: the fee for
// deleting so few bytes early is less than what the requests cost.
func (b *bucket) probe(ctx context.Context) error {
	key := probePrefix + rand.Text()
	first, second := drivers.NewBody([]byte(rand.Text())), drivers.NewBody([]byte(rand.Text()))
	created, err := b.create(ctx, key, first)
	if err != nil {
		return b.explain(ctx, err)
	}
	refuse := func(what, danger string, err, want error) error {
		if errors.Is(err, want) {
			return nil
		}
		if err == nil {
			return fmt.Errorf("storage.azure.endpoint: this store ignores %s: %s, so berth does not serve from it", what, danger)
		}
		return fmt.Errorf("%s that must be refused: %w", what, b.explain(ctx, err))
	}
	_, err = b.create(ctx, key, second)
	if err := refuse("If-None-Match: * on Put Blob (create-only)", "two uploads could overwrite each other", err, drivers.ErrExists); err != nil {
		return err
	}
	replaced, err := b.replace(ctx, key, created.Tag, second)
	if err != nil {
		return b.explain(ctx, err)
	}
	_, err = b.replace(ctx, key, created.Tag, first)
	if err := refuse("If-Match on Put Blob (compare-and-swap)", "a push and the collector could overwrite each other", err, drivers.ErrChanged); err != nil {
		return err
	}
	err = b.deleteIf(ctx, key, created.Tag)
	if err := refuse("If-Match on Delete Blob", "a deletion that lands late could take a blob that was pushed since", err, drivers.ErrChanged); err != nil {
		return err
	}
	if err := b.flat(ctx, strings.TrimSuffix(probePrefix, "/")); err != nil {
		return err
	}
	return b.explain(ctx, b.deleteIf(ctx, key, replaced.Tag))
}

// flat refuses a store in which what is above a blob is there as well. In an
// account with a hierarchical namespace directories show up in listings.
func (b *bucket) flat(ctx context.Context, above string) error {
	_, err := b.stat(ctx, above)
	if err == nil {
		return fmt.Errorf("storage.azure.account: %q has a hierarchical namespace, whose directories are listed like blobs; "+
			"use an account without", b.account.name)
	}
	if err = b.explain(ctx, err); errors.Is(err, drivers.ErrNotFound) {
		return nil
	}
	return err
}

// Limits are those of block blobs:
// https://learn.microsoft.com/rest/api/storageservices/understanding-block-blobs--append-blobs--and-page-blobs.
func (b *bucket) Limits() drivers.Limits {
	return drivers.Limits{MaxPart: maxBlock, MaxParts: maxBlocks}
}

const (
	maxBlock  = 4000 << 20 // bytes
	maxBlocks = 50_000     // in a blob
	maxBatch  = 256        // requests in one
)

// Close closes the connections that are idle.
func (b *bucket) Close() error {
	b.client.CloseIdleConnections()
	return nil
}

// blobName is the name of the blob that holds a key.
func (b *bucket) blobName(key string) string { return b.prefix + key }

// check looks at what every call has to look at.
func check(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := drivers.CheckKey(key); err != nil {
			return err
		}
	}
	return ctx.Err()
}
