package s3

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	defaultConnections = 256

	dialTimeout     = 10 * time.Second
	responseTimeout = 2 * time.Minute // from the last byte of a request to the first byte of the response
)

// load returns the SDK's configuration: the Config's settings, completed from
// the environment and the shared configuration. Credentials that can expire are
// kept by a credentialsCache.
func (c *Config) load(ctx context.Context) (aws.Config, error) {
	roots, err := c.roots()
	if err != nil {
		return aws.Config{}, err
	}
	cache := &credentialsCache{log: c.Log}
	if c.AccessKeyID == "" {
		if cache.files.names, err = sharedNames(); err != nil {
			return aws.Config{}, fmt.Errorf("the SDK's configuration: %w", err)
		}
		cache.files.use(cache.files.stamp())
		cache.resolve = func(ctx context.Context) (*aws.CredentialsCache, error) {
			sdk, err := c.resolve(ctx, roots)
			if err != nil {
				return nil, err
			}
			source, ok := sdk.Credentials.(*aws.CredentialsCache)
			if !ok {
				return nil, errors.New("the SDK no longer finds credentials")
			}
			return source, nil
		}
	}
	sdk, err := c.resolve(ctx, roots)
	if err != nil {
		return sdk, err
	}
	if source, ok := sdk.Credentials.(*aws.CredentialsCache); ok { // anything else never expires
		cache.source.Store(source)
		sdk.Credentials = cache
	}
	return sdk, nil
}

// resolve has the SDK read the environment and the shared configuration. It
// returns an error that names s3.Config.Region if no region is found.
func (c *Config) resolve(ctx context.Context, roots *x509.CertPool) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithAppID("berth"),
		config.WithLogger(logging.Nop{}), // failures are in the errors
		config.WithHTTPClient(c.httpClient(roots)),
		config.WithRetryer(c.retryer),
		config.WithRegion(c.Region),
		config.WithSharedConfigProfile(c.Profile),
		// The SDK's cache must not renew credentials early; see credentialsCache.
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 0 }),
		config.WithAssumeRoleCredentialOptions(withOneHourSession), // for the role of a profile
	}
	if c.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)))
	}
	if c.Region == "" && c.Endpoint == "" {
		options = append(options, config.WithEC2IMDSRegion())
	}
	sdk, err := config.LoadDefaultConfig(ctx, options...)
	if call, ok := errors.AsType[*smithy.OperationError](err); ok && call.OperationName == "GetRegion" {
		return sdk, fmt.Errorf("s3.Config.Region is empty, and neither AWS_REGION nor the shared configuration nor an EC2 instance has one: %w", err)
	}
	if err != nil {
		return sdk, fmt.Errorf("the SDK's configuration: %w", err)
	}
	if sdk.Region == "" { // with an Endpoint
		sdk.Region = "us-east-1"
	}
	if client, ok := sdk.HTTPClient.(*awshttp.BuildableClient); ok { // with AWS_CA_BUNDLE, if set
		// The client that the SDK itself makes of it can't close idle connections.
		sdk.HTTPClient = &http.Client{Transport: client.GetTransport(), CheckRedirect: redirects}
	}
	if c.RoleARN != "" {
		role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(sdk), c.RoleARN, withOneHourSession, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "berth"
		})
		sdk.Credentials = aws.NewCredentialsCache(role)
	}
	return sdk, nil
}

// withOneHourSession requests a session of one hour. Any role may have a session
// of that length, even a role that another role assumes. No URL outlives the
// session that signs it, and the SDK's default is 15 minutes.
//
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func withOneHourSession(o *stscreds.AssumeRoleOptions) {
	if o.Duration == 0 { // a profile may have duration_seconds
		o.Duration = time.Hour
	}
}

// httpClient returns a client that keeps as many idle connections as there may
// be requests at a time. It speaks HTTP/1.1, as Amazon S3 does, so that
// parallel parts use separate connections.
func (c *Config) httpClient(roots *x509.CertPool) *awshttp.BuildableClient {
	connections := cmp.Or(c.Connections, defaultConnections)
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = connections, connections, 0
		t.ResponseHeaderTimeout = responseTimeout
		t.ForceAttemptHTTP2 = false
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
		t.WriteBufferSize, t.ReadBufferSize = 64<<10, 16<<10
		if roots != nil {
			t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		}
	}).WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout })
}

// roots returns the authorities that the system trusts together with those of
// CAFile, or nil without a CAFile. An AWS_CA_BUNDLE adds to them.
func (c *Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("s3.Config.CAFile: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil { // the system has none
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("s3.Config.CAFile: %s has no certificate in PEM", c.CAFile)
	}
	return roots, nil
}

// redirects follows the redirects that keep the method, as the SDK does. Any
// other redirect is S3's answer to a wrong region, and is returned unchanged.
func redirects(to *http.Request, _ []*http.Request) error {
	switch to.Response.StatusCode {
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return nil
	default:
		return http.ErrUseLastResponse
	}
}

// storeClient returns a client of the store that sends its requests by client.
// A request that the store refused for its credentials is retried with new
// credentials.
func (c *Config) storeClient(sdk aws.Config, client *http.Client) *s3.Client {
	sdk.HTTPClient = client
	if cache, ok := sdk.Credentials.(*credentialsCache); ok {
		sdk.Retryer = func() aws.Retryer { return &renewing{c.retryer().(aws.RetryerV2), cache} }
	}
	return c.client(sdk, c.Endpoint)
}

// client returns a client of the store at endpoint, or of Amazon S3 if endpoint
// is empty.
func (c *Config) client(sdk aws.Config, endpoint string) *s3.Client {
	return s3.NewFromConfig(sdk, func(o *s3.Options) {
		o.UsePathStyle = c.PathStyle
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		} else { // these choose among Amazon's endpoints
			o.UseAccelerate = c.Accelerate
			if c.DualStack {
				o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
			}
			if c.FIPS {
				o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
			}
		}
		for name, value := range c.standing() {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue(name, value))
		}
		o.APIOptions = append(o.APIOptions, c.headers(aws.ToString(o.BaseEndpoint))...)
		// Checksums come with the bodies; the SDK computes none.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		// The SDK's requests do not wait for 100 Continue, even if their header
		// asks for it. A wait of one round trip for each part would not pay.
		o.ContinueHeaderThresholdBytes = -1
	})
}
