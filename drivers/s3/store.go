package s3

import (
	"context"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berthhq/berth/drivers"
)

// store sends requests about one bucket. Unless a method's comment mentions
// classify, it returns the SDK's errors as they are.
type store struct {
	advisor

	prefix string // before every key
	client *s3.Client

	// hashPayloads reports whether bodies are hashed for the signature. That is
	// needed only if the store ignores or lacks checksums.
	hashPayloads bool
}

func newStore(cfg *Config, region string, client *s3.Client) *store {
	return &store{
		advisor:      advisor{cfg: cfg, region: region},
		prefix:       cfg.prefix(),
		client:       client,
		hashPayloads: !cfg.sendsChecksums(),
	}
}

// endpoint returns the URL of the store, or "" for Amazon S3.
func (s *store) endpoint() string { return aws.ToString(s.client.Options().BaseEndpoint) }

// bucket returns the name of the bucket.
func (s *store) bucket() *string { return aws.String(s.cfg.Bucket) }

// name returns the name of a key in the bucket.
func (s *store) name(key string) *string { return aws.String(s.prefix + key) }

// key returns the key of an object with this name.
func (s *store) key(name *string) string { return strings.TrimPrefix(aws.ToString(name), s.prefix) }

func (s *store) encryption() types.ServerSideEncryption {
	return types.ServerSideEncryption(s.cfg.SSE)
}

func (s *store) kmsKey() *string { return optional(s.cfg.KMSKeyID) }

func (s *store) storageClass(key string) types.StorageClass {
	if strings.HasPrefix(key, drivers.BulkPrefix) {
		return types.StorageClass(s.cfg.StorageClass)
	}
	return ""
}

// payload is an option for calls that send a body.
func (s *store) payload(o *s3.Options) {
	if !s.hashPayloads {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
}

// condition sets the condition of a write.
type condition func(*s3.PutObjectInput)

// ifFree is the condition that the key is free.
func ifFree(in *s3.PutObjectInput) { in.IfNoneMatch = star() }

// ifTag returns the condition that the object has this tag.
func ifTag(tag string) condition {
	return func(in *s3.PutObjectInput) { in.IfMatch = ifMatch(tag) }
}

// unconditional is no condition.
func unconditional(*s3.PutObjectInput) {}

// create returns the condition of a create: that the key is free, or none if the bucket
// is for data only.
func (s *store) create() condition {
	if s.cfg.DataOnly {
		return unconditional
	}
	return ifFree
}

func star() *string { return aws.String("*") }

// put sends one PutObject. The body may be empty, for DeleteIf.
func (s *store) put(ctx context.Context, key string, body drivers.Body, set condition, attempts *attempts) (drivers.Object, error) {
	in := &s3.PutObjectInput{
		Bucket:               s.bucket(),
		Key:                  s.name(key),
		Body:                 body.Reader(),
		ContentLength:        &body.Size,
		ServerSideEncryption: s.encryption(),
		SSEKMSKeyId:          s.kmsKey(),
		StorageClass:         s.storageClass(key),
	}
	set(in)
	if s.cfg.sendsChecksums() {
		in.ChecksumCRC32C = crcHeader(body.CRC32C)
	}
	out, err := s.client.PutObject(ctx, in, attempts.watch, s.payload)
	if err != nil {
		return drivers.Object{}, err
	}
	return drivers.Object{Key: key, Size: body.Size, Tag: tagOf(out.ETag)}, nil
}

// head sends one HeadObject. The reason for a refusal, such as expired
// credentials (400), is in the body of a response, which a HEAD does not have. So
// head sends a GET to read it. If the GET
// succeeds, because it used new credentials, head sends the HEAD again.
func (s *store) head(ctx context.Context, key string) (drivers.Object, error) {
	in := &s3.HeadObjectInput{Bucket: s.bucket(), Key: s.name(key)}
	out, err := s.client.HeadObject(ctx, in)
	if refusal := status(err); refusal == http.StatusBadRequest || refusal == http.StatusForbidden {
		got, getErr := s.get(ctx, key, byteRange(0, 1))
		switch {
		case getErr == nil:
			got.Body.Close()
			out, err = s.client.HeadObject(ctx, in)
		case isAbsent(getErr), status(getErr) == refusal:
			err = getErr
		}
	}
	if err != nil {
		return drivers.Object{}, err
	}
	o := drivers.Object{Key: key, Tag: tagOf(out.ETag)}
	if out.ContentLength != nil {
		o.Size = *out.ContentLength
	}
	if out.LastModified != nil {
		o.Modified = *out.LastModified
	}
	return o, nil
}

// get sends one GetObject. span is the value of the Range header; nil for the
// whole object.
func (s *store) get(ctx context.Context, key string, span *string) (*s3.GetObjectOutput, error) {
	return s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: s.bucket(), Key: s.name(key), Range: span})
}

// remove sends one DeleteObject. tag may be nil.
func (s *store) remove(ctx context.Context, key string, tag *string, options ...func(*s3.Options)) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket(), Key: s.name(key), IfMatch: tag}, options...)
	return err
}

// crcHeader returns the value of a CRC-32C header.
func crcHeader(crc uint32) *string { return aws.String(drivers.EncodeCRC32C(crc)) }

// optional returns nil for an empty string, so that the request omits it.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
