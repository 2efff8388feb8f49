package s3

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Config names a bucket and how to reach it. On Amazon S3, Bucket is enough if
// the SDK finds the region and the credentials by itself.
type Config struct {
	Bucket string

	// Prefix is added before every key in the bucket, followed by a "/". A "/"
	// at its start or end makes no difference.
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
	// the store by another name than this process. It must speak the S3
	// protocol: Cloudflare R2 accepts signed links only at its S3 host, never
	// at a custom domain.
	PublicEndpoint string

	// CAFile is a PEM file of certificate authorities. The store's TLS
	// certificate may be from one of them or from an authority that the system
	// trusts.
	CAFile string

	// ExpectedBucketOwner is the ID of the account that must own the bucket, 12
	// digits. Requests and URLs carry it. The store refuses them if the bucket
	// belongs to another account, for example because the bucket was deleted
	// and another account has taken its name.
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
	ExpectedBucketOwner string

	// RequestPayer is "requester" for a Requester Pays bucket of another
	// account, or empty. The account of these credentials then pays for requests
	// and downloads. Signed URLs carry it.
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html
	RequestPayer string

	SSE      string // "AES256", "aws:kms", "aws:kms:dsse"; the bucket's default if empty
	KMSKeyID string // for aws:kms; the account's default key if empty

	// StorageClass is the class of keys under drivers.BulkPrefix; the bucket's
	// default if empty. It must not be a class from which objects have to be
	// restored before they are read. Records stay in STANDARD: they are small
	// and read all the time.
	StorageClass string

	// Checksum is "crc32c" (also if empty), or "none" for stores without
	// support for checksums. With "none", payloads are hashed for the signature
	// instead. Every store checks that, but it costs more CPU here.
	Checksum string

	// EqualParts is whether all parts but the last must have the same size. If
	// it is nil, the default is true for Cloudflare R2's endpoints, and false
	// for all others.
	EqualParts *bool

	// DataOnly is whether the bucket holds only keys under drivers.BulkPrefix, beside
	// another bucket that holds everything else (see package split). Its store then
	// needs no conditional writes: Open does not probe them, no write has a condition,
	// and Replace and DeleteIf return errors.ErrUnsupported. Create and Complete
	// overwrite an object at their key, which does no harm because a data key belongs
	// to one upload.
	DataOnly bool

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

	// Transport sends the signed requests to the store, one for each attempt.
	// If it is nil, Open creates a transport that speaks HTTP/1.1, ends requests
	// that hang, keeps Connections idle connections, and trusts CAFile. A
	// Transport of the caller has its own timeouts, connections and authorities
	// instead. Requests for credentials always use the transport that Open
	// creates.
	Transport http.RoundTripper

	// Watch, if not nil, wraps the transport of the store, whether it is Transport or
	// that of Open. It sees each attempt. It is for metrics and traces.
	Watch func(http.RoundTripper) http.RoundTripper

	// Log receives messages for the operator about a store that works. If it
	// is nil nothing is logged.
	Log *slog.Logger
}

// Validate returns an error that names invalid fields. It makes no requests.
func (c *Config) Validate() error {
	return errors.Join(c.checkValues(), c.checkCombinations(), checkHome(c.Bucket), checkHeaders(c.Headers), c.checkEndpoints())
}

// checkValues checks settings by themselves.
func (c *Config) checkValues() error {
	switch {
	case c.Bucket == "":
		return errors.New("s3.Config.Bucket is empty")
	case c.Checksum != "" && c.Checksum != "crc32c" && c.Checksum != "none":
		return fmt.Errorf("s3.Config.Checksum: %q, want crc32c or none", c.Checksum)
	case c.StorageClass == string(types.StorageClassGlacier), c.StorageClass == string(types.StorageClassDeepArchive):
		return fmt.Errorf("s3.Config.StorageClass: objects in %s can't be read before they are restored: use another class, such as GLACIER_IR", c.StorageClass)
	case c.RequestPayer != "" && c.RequestPayer != string(types.RequestPayerRequester):
		return fmt.Errorf("s3.Config.RequestPayer: %q, want requester, or nothing", c.RequestPayer)
	case c.ExpectedBucketOwner != "" && !isAccount(c.ExpectedBucketOwner):
		return fmt.Errorf("s3.Config.ExpectedBucketOwner: %q, want an account ID of 12 digits", c.ExpectedBucketOwner)
	}
	return nil
}

// checkCombinations checks settings that require or exclude each other.
func (c *Config) checkCombinations() error {
	switch {
	case (c.AccessKeyID == "") != (c.SecretAccessKey == ""):
		return errors.New("s3.Config.AccessKeyID and s3.Config.SecretAccessKey must be set together")
	case c.SessionToken != "" && c.AccessKeyID == "":
		return errors.New("s3.Config.SessionToken requires s3.Config.AccessKeyID, which is empty")
	case c.KMSKeyID != "" && !strings.HasPrefix(c.SSE, "aws:kms"):
		return fmt.Errorf("s3.Config.KMSKeyID requires s3.Config.SSE aws:kms, not %q", c.SSE)
	case c.Accelerate && c.PathStyle:
		return errors.New("s3.Config.Accelerate can't be used with s3.Config.PathStyle: its URLs have the bucket in the host name")
	case c.Accelerate && c.FIPS:
		return errors.New("s3.Config.Accelerate can't be used with s3.Config.FIPS: no such endpoint is FIPS-validated")
	}
	return nil
}

// checkEndpoints checks the URLs, and the settings that choose among Amazon's
// endpoints.
func (c *Config) checkEndpoints() error {
	for _, choice := range []struct {
		name string
		set  bool
	}{{"s3.Config.Accelerate", c.Accelerate}, {"s3.Config.DualStack", c.DualStack}, {"s3.Config.FIPS", c.FIPS}} {
		if choice.set && c.Endpoint != "" {
			return fmt.Errorf("%s chooses among Amazon's endpoints, and can't be used with s3.Config.Endpoint", choice.name)
		}
	}
	for _, endpoint := range []struct{ name, value string }{{"s3.Config.Endpoint", c.Endpoint}, {"s3.Config.PublicEndpoint", c.PublicEndpoint}} {
		if endpoint.value == "" {
			continue
		}
		u, err := url.Parse(endpoint.value)
		if err != nil {
			return fmt.Errorf("%s: %w", endpoint.name, err)
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%s: %q, want a URL such as https://s3.example.com", endpoint.name, endpoint.value)
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

// sendsChecksums reports whether bodies are sent with their CRC-32C.
func (c *Config) sendsChecksums() bool { return c.Checksum != "none" }

// prefix returns the prefix with a "/" at its end, or "".
func (c *Config) prefix() string {
	if p := strings.Trim(c.Prefix, "/"); p != "" {
		return p + "/"
	}
	return ""
}
