package s3

import (
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

	// credentialMargin is how long a URL expires before its credentials.
	credentialMargin = time.Minute

	unsignedPayload = "UNSIGNED-PAYLOAD"
)

// signer signs URLs by the store's clock. It makes no requests, except for new
// credentials.
type signer struct {
	base        url.URL // of the bucket, at the endpoint for the public
	parameters  map[string]string
	region      string
	credentials aws.CredentialsProvider
	v4          *v4.Signer
}

// newSigner returns a signer. The SDK computes the base of the bucket's URLs
// once, here.
func newSigner(ctx context.Context, cfg *Config, sdk aws.Config) (*signer, error) {
	endpoint := cfg.PublicEndpoint
	if endpoint == "" {
		endpoint = cfg.Endpoint
	}
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
	err := drivers.CheckKey(key)
	if err == nil {
		var s drivers.Signed
		if s, err = b.signer.sign(ctx, b.prefix+key, opts, b.clock.Now()); err == nil {
			s.Expires = b.clock.Local(s.Expires)
			return s, nil
		}
		err = b.classify(ctx, err)
	}
	return drivers.Signed{}, fmt.Errorf("s3: sign %s: %w", key, err)
}

// isOver reports whether a URL that is signed now with these credentials would
// already be expired.
func isOver(c aws.Credentials, now time.Time) bool {
	return c.CanExpire && !c.Expires.Add(-credentialMargin).Truncate(time.Second).After(now)
}

func (s *signer) sign(ctx context.Context, name string, opts drivers.SignOptions, now time.Time) (drivers.Signed, error) {
	credentials, err := s.credentials.Retrieve(ctx)
	if err != nil {
		return drivers.Signed{}, err
	}
	if r, ok := s.credentials.(*refreshing); ok && isOver(credentials, now) && r.replaced(credentials.AccessKeyID, credentials.SessionToken) {
		// The credentials only seemed good by this machine's wrong clock.
		if credentials, err = r.Retrieve(ctx); err != nil {
			return drivers.Signed{}, err
		}
	}
	signed := now.UTC().Truncate(time.Second)
	expires := opts.Expires
	if opts.Window > 0 {
		signed = now.UTC().Truncate(max(opts.Window, time.Second))
		expires += opts.Window
	}
	until := signed.Add(min(expires, maxExpires)).Truncate(time.Second)
	if credentials.CanExpire {
		if end := credentials.Expires.Add(-credentialMargin).Truncate(time.Second); end.Before(until) {
			until = end
		}
	}
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
