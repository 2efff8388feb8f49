package s3

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/encoding/httpbinding"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/presign"
)

const (
	// maxExpires is the maximum lifetime of a SigV4 signature.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
	maxExpires = 7 * 24 * time.Hour

	// credentialMargin is how long before its credentials a URL expires.
	credentialMargin = time.Minute

	unsignedPayload = "UNSIGNED-PAYLOAD"
)

// signer signs URLs by the store's clock. It makes no requests, except for new
// credentials.
type signer struct {
	base        url.URL           // of the bucket, at the public endpoint
	parameters  map[string]string // of every URL
	region      string
	credentials aws.CredentialsProvider
	v4          *v4.Signer
}

// newSigner returns a signer. The SDK computes the base of the bucket's URLs
// once, here.
func newSigner(ctx context.Context, cfg *Config, sdk aws.Config) (*signer, error) {
	endpoint := cmp.Or(cfg.PublicEndpoint, cfg.Endpoint)
	const key = "key"
	sample, err := s3.NewPresignClient(cfg.client(sdk, endpoint)).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &cfg.Bucket, Key: aws.String(key)})
	if err != nil {
		return nil, fmt.Errorf("sign a URL: %w", err)
	}
	u, err := url.Parse(sample.URL)
	if err != nil {
		return nil, fmt.Errorf("sign a URL: %w", err)
	}
	return &signer{
		parameters:  cfg.standing(),
		base:        url.URL{Scheme: u.Scheme, Host: presign.Authority(u), Path: u.Path[:len(u.Path)-len(key)]},
		region:      sdk.Region,
		credentials: sdk.Credentials,
		v4:          v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }),
	}, nil
}

// SignGet returns the URL of a presigned GetObject and its expiry.
func (b *bucket) SignGet(ctx context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	if err := drivers.CheckKey(key); err != nil {
		return drivers.Signed{}, fmt.Errorf("s3: sign %s: %w", key, err)
	}
	s, err := b.signer.sign(ctx, b.store.prefix+key, opts, b.clock.Now())
	if err != nil {
		return drivers.Signed{}, fmt.Errorf("s3: sign %s: %w", key, b.store.classify(ctx, err))
	}
	s.Expires = b.clock.Local(s.Expires)
	return s, nil
}

// sign returns the URL of the object with this name. now is by the store's
// clock.
func (s *signer) sign(ctx context.Context, name string, opts drivers.SignOptions, now time.Time) (drivers.Signed, error) {
	credentials, err := s.retrieve(ctx, now)
	if err != nil {
		return drivers.Signed{}, err
	}
	signed, until := lifetime(opts, credentials, now)
	seconds := int64(until.Sub(signed) / time.Second)
	if seconds < 1 || !until.After(now) {
		return drivers.Signed{}, fmt.Errorf("%w: the credentials expire at %s", drivers.ErrRefused, credentials.Expires.Format(time.RFC3339))
	}

	u := s.base
	u.Path += name
	u.RawPath = httpbinding.EscapePath(u.Path, false)
	query := url.Values{"X-Amz-Expires": {strconv.FormatInt(seconds, 10)}}
	for name, value := range s.parameters {
		query.Set(name, value)
	}
	if opts.ContentType != "" {
		query.Set("response-content-type", opts.ContentType)
	}
	if opts.ContentDisposition != "" {
		query.Set("response-content-disposition", opts.ContentDisposition)
	}
	u.RawQuery = query.Encode()
	req := &http.Request{Method: http.MethodGet, URL: &u, Host: u.Host, Header: make(http.Header)}
	presigned, _, err := s.v4.PresignHTTP(ctx, credentials, req, unsignedPayload, "s3", s.region, signed)
	if err != nil {
		return drivers.Signed{}, err
	}
	return drivers.Signed{URL: presigned, Expires: until}, nil
}

// retrieve returns credentials that are valid at the time now. Where the clock
// of this machine is slow, expired credentials seem valid to the cache.
func (s *signer) retrieve(ctx context.Context, now time.Time) (aws.Credentials, error) {
	credentials, err := s.credentials.Retrieve(ctx)
	if err != nil {
		return credentials, err
	}
	if cache, ok := s.credentials.(*credentialsCache); ok && isOver(credentials, now) && cache.replaced(credentials.AccessKeyID, credentials.SessionToken) {
		return cache.Retrieve(ctx)
	}
	return credentials, nil
}

// isOver reports whether a URL that is signed now with these credentials would
// already be expired.
func isOver(c aws.Credentials, now time.Time) bool {
	return c.CanExpire && !lastExpiry(c).After(now)
}

// lastExpiry returns the last time at which a URL that is signed with these
// credentials may expire.
func lastExpiry(c aws.Credentials) time.Time {
	return c.Expires.Add(-credentialMargin).Truncate(time.Second)
}

// lifetime returns the time of a signature and the expiry of its URL, both in
// whole seconds.
func lifetime(opts drivers.SignOptions, credentials aws.Credentials, now time.Time) (signed, until time.Time) {
	signed = now.UTC().Truncate(time.Second)
	expires := opts.Expires
	if opts.Window > 0 {
		signed = now.UTC().Truncate(max(opts.Window, time.Second))
		expires += opts.Window
	}
	until = signed.Add(min(expires, maxExpires)).Truncate(time.Second)
	if last := lastExpiry(credentials); credentials.CanExpire && last.Before(until) {
		until = last
	}
	return signed, until
}
