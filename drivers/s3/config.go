package s3

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Config names a bucket and how to reach it. On Amazon S3, Bucket is enough if
// the SDK finds the region and the credentials by itself.
type Config struct {
	Bucket string

	// Prefix starts every key of berth's in the bucket. A "/" at its end makes
	// no difference.
	Prefix string

	// Region is the bucket's region. If it is empty the SDK takes it from the
	// environment, the shared configuration or, on EC2, the instance's
	// metadata. With an Endpoint the default is us-east-1.
	Region string

	// Endpoint is the URL of a store other than Amazon's. PathStyle puts the
	// bucket in the path of URLs instead of the host name.
	Endpoint  string
	PathStyle bool

	// AccessKeyID, SecretAccessKey and SessionToken are static credentials.
	// Without them the SDK uses its default chain: environment, shared
	// configuration, web identity (IRSA), container, instance.
	// https://docs.aws.amazon.com/sdk-for-go/v2/developer-guide/configure-gosdk.html
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string

	Profile string // of the shared configuration
	RoleARN string // a role to assume with these credentials

	// PublicEndpoint is the URL that signed links point at, if clients reach
	// the store by another name than this process does. It must speak the
	// S3 protocol: Cloudflare R2 accepts signed links only at its S3 host,
	// never at a custom domain.
	PublicEndpoint string

	// CAFile is a PEM file of certificate authorities. The store's TLS
	// certificate may be from one of them or from one that the system trusts.
	CAFile string

	// ExpectedBucketOwner is the number of the account that must own the
	// bucket. Requests and URLs carry it. The store refuses them if the bucket
	// belongs to another account, for example because the bucket was deleted
	// and another account has taken its name.
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
	ExpectedBucketOwner string

	// RequestPayer is "requester" for a Requester Pays bucket of another
	// account, or empty. Requests and downloads are then paid for by the
	// account of these credentials. Signed URLs carry it.
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html
	RequestPayer string

	SSE      string // "AES256", "aws:kms", "aws:kms:dsse"; the bucket's default if empty
	KMSKeyID string // for aws:kms; the account's default key if empty

	// StorageClass is the class of keys under drivers.BulkPrefix; the bucket's
	// default if empty. It must not be a class whose objects have to be
	// restored before they are read. Records stay in STANDARD: they are small
	// and read all the time.
	StorageClass string

	// Checksum is "crc32c" (also if empty), or "none" for stores without
	// support for checksums. With "none", payloads are hashed for the signature
	// instead, which every store checks, but which costs more CPU here.
	Checksum string

	// EqualParts is whether all parts but the last must have the same size. If
	// it is nil, they must if the endpoint is Cloudflare R2's.
	EqualParts *bool

	// Headers are sent with each request to the store, and signed.
	Headers map[string]string

	Accelerate bool // S3 Transfer Acceleration
	DualStack  bool // endpoints with IPv6
	FIPS       bool // FIPS endpoints

	// Retries is how often a failed request is retried: 2 times if zero, not
	// at all if negative.
	Retries int

	// Connections is how many idle connections are kept for later requests:
	// 256 if zero. The number of connections in use is not limited.
	Connections int

	// Log receives messages for the operator about a store that works. If it
	// is nil nothing is logged.
	Log *slog.Logger
}

const (
	defaultRetries     = 2
	defaultConnections = 256

	dialTimeout   = 10 * time.Second
	answerTimeout = 2 * time.Minute // from the last byte of a request to the first of the answer
)

// check returns an error that names the first invalid setting. It makes no
// requests.
func (c *Config) check() error {
	switch {
	case c.Bucket == "":
		return errors.New("storage.s3.bucket is empty")
	case c.Checksum != "" && c.Checksum != "crc32c" && c.Checksum != "none":
		return fmt.Errorf("storage.s3.checksum: %q, want crc32c or none", c.Checksum)
	case c.StorageClass == string(types.StorageClassGlacier), c.StorageClass == string(types.StorageClassDeepArchive):
		return fmt.Errorf("storage.s3.storage_class: what is in %s can't be read before it is restored: use another, such as GLACIER_IR", c.StorageClass)
	case (c.AccessKeyID == "") != (c.SecretAccessKey == ""):
		return errors.New("storage.s3.access_key_id and storage.s3.secret_access_key go together")
	case c.Accelerate && c.PathStyle:
		return errors.New("storage.s3.accelerate does not go with storage.s3.path_style: its URLs have the bucket in the host name")
	case c.KMSKeyID != "" && !strings.HasPrefix(c.SSE, "aws:kms"):
		return fmt.Errorf("storage.s3.kms_key_id goes with storage.s3.sse aws:kms, not %q", c.SSE)
	case c.RequestPayer != "" && c.RequestPayer != string(types.RequestPayerRequester):
		return fmt.Errorf("storage.s3.request_payer: %q, want requester, or nothing", c.RequestPayer)
	case c.ExpectedBucketOwner != "" && !isAccount(c.ExpectedBucketOwner):
		return fmt.Errorf("storage.s3.expected_bucket_owner: %q, want the 12 digits of an account", c.ExpectedBucketOwner)
	case c.Accelerate && c.FIPS:
		return errors.New("storage.s3.accelerate does not go with storage.s3.fips: no such endpoint is FIPS-validated")
	}
	if err := checkHome(c.Bucket); err != nil {
		return err
	}
	if err := checkHeaders(c.Headers); err != nil {
		return err
	}
	for name, set := range map[string]bool{"accelerate": c.Accelerate, "dual_stack": c.DualStack, "fips": c.FIPS} {
		if set && c.Endpoint != "" {
			return fmt.Errorf("storage.s3.%s chooses among Amazon's endpoints, and does not go with storage.s3.endpoint", name)
		}
	}
	for name, value := range map[string]string{"endpoint": c.Endpoint, "public_endpoint": c.PublicEndpoint} {
		if value == "" {
			continue
		}
		u, err := url.Parse(value)
		if err != nil {
			return fmt.Errorf("storage.s3.%s: %w", name, err)
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("storage.s3.%s: %q, want a URL such as https://s3.example.com", name, value)
		}
	}
	return nil
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// standing returns the headers that every request to the store carries. Signed
// URLs carry them as parameters, which Amazon S3 accepts only in lower case.
func (c *Config) standing() map[string]string {
	headers := make(map[string]string)
	if c.ExpectedBucketOwner != "" {
		headers["x-amz-expected-bucket-owner"] = c.ExpectedBucketOwner
	}
	if c.RequestPayer != "" {
		headers["x-amz-request-payer"] = c.RequestPayer
	}
	return headers
}

// prefix returns the prefix with a "/" at its end, or "".
func (c *Config) prefix() string {
	if p := strings.Trim(c.Prefix, "/"); p != "" {
		return p + "/"
	}
	return ""
}

// load returns the SDK's configuration: the Config's settings, completed from
// the environment and the shared configuration.
func (c *Config) load(ctx context.Context) (aws.Config, error) {
	roots, err := c.roots()
	if err != nil {
		return aws.Config{}, err
	}
	r := &refreshing{log: c.Log}
	if c.AccessKeyID == "" {
		if r.files.names, err = sharedNames(); err != nil {
			return aws.Config{}, fmt.Errorf("the SDK's configuration: %w", err)
		}
		r.files.use(r.files.stamp())
		r.resolve = func(ctx context.Context) (*aws.CredentialsCache, error) {
			again, err := c.resolve(ctx, roots)
			if err != nil {
				return nil, err
			}
			cache, ok := again.Credentials.(*aws.CredentialsCache)
			if !ok {
				return nil, errors.New("the SDK finds no credentials any more")
			}
			return cache, nil
		}
	}
	cfg, err := c.resolve(ctx, roots)
	if err != nil {
		return cfg, err
	}
	if cache, ok := cfg.Credentials.(*aws.CredentialsCache); ok { // anything else never expires
		r.cache, cfg.Credentials = cache, r
	}
	return cfg, nil
}

// resolve has the SDK read the environment and the shared configuration. It
// returns an error that names storage.s3.region if no region is found.
func (c *Config) resolve(ctx context.Context, roots *x509.CertPool) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithAppID("berth"),
		config.WithLogger(logging.Nop{}), // what fails is in the errors
		config.WithHTTPClient(c.httpClient(roots)),
		config.WithRetryer(c.retryer),
		config.WithRegion(c.Region),
		config.WithSharedConfigProfile(c.Profile),
		// For some sources the SDK has a window of its own; see refreshing.
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 0 }),
		config.WithAssumeRoleCredentialOptions(hourLong), // a profile's role
	}
	if c.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)))
	}
	if c.Region == "" && c.Endpoint == "" {
		options = append(options, config.WithEC2IMDSRegion())
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if call, ok := errors.AsType[*smithy.OperationError](err); ok && call.OperationName == "GetRegion" {
		return cfg, fmt.Errorf("storage.s3.region is empty, and neither AWS_REGION nor the shared configuration nor an EC2 instance has one: %w", err)
	}
	if err != nil {
		return cfg, fmt.Errorf("the SDK's configuration: %w", err)
	}
	if cfg.Region == "" { // there is an Endpoint
		cfg.Region = "us-east-1"
	}
	if client, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok { // with AWS_CA_BUNDLE, if set
		// The client that the SDK itself makes of it cannot close what is idle.
		cfg.HTTPClient = &http.Client{Transport: client.GetTransport(), CheckRedirect: redirects}
	}
	if c.RoleARN != "" {
		role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), c.RoleARN, hourLong, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "berth"
		})
		cfg.Credentials = aws.NewCredentialsCache(role)
	}
	return cfg, nil
}

// hourLong requests a session of one hour. Any role may have a session of that
// length, even a role that another role assumes. No URL outlives the session
// that signs it, and the SDK's own default is 15 minutes.
//
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func hourLong(o *stscreds.AssumeRoleOptions) {
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
		t.ResponseHeaderTimeout = answerTimeout
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
		return nil, fmt.Errorf("storage.s3.ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil { // there is none to be found
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("storage.s3.ca_file: %s has no certificate in PEM", c.CAFile)
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

// client returns a client of the store at endpoint, or of Amazon S3 if endpoint
// is empty.
func (c *Config) client(cfg aws.Config, endpoint string) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = c.PathStyle
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		} else { // these choose among Amazon's own
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
		// Checksums come with the bodies; none is computed on the way.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		// The SDK's requests do not wait for 100 Continue, even if their header
		// asks for it. A wait of one round trip for each part would not pay.
		o.ContinueHeaderThresholdBytes = -1
	})
}
