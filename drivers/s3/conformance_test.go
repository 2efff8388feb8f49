package s3

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
	"github.com/berthhq/berth/drivers/memory"
)

// subject is a store under test, with the reasons why some cases are not run. No case is
// left out for both versitygw and MinIO, so each capability that berth depends
// on is tested on at least one of them.
type subject struct {
	// start starts the store, and returns a function that creates a bucket and
	// returns its configuration.
	start func(t *testing.T) func(t *testing.T) Config
	gaps  map[string]string
	small bool // whether parts may have smallPart bytes
	long  bool // whether only TestLongConformance runs the suite on it
}

// smallPart is the minimum size of a part of the doubles, in bytes. The race
// detector makes each byte expensive.
const smallPart = 100_000

// subjects returns the stores that the suite runs on.
//
// They do not show the following behavior of Amazon S3 or Cloudflare R2. The
// right column names the reason and the tests that cover it:
//
//	409 to conflicting writes                they answer 412 only: TestConflict, TestCompleteConflict
//	503 SlowDown, 429                        TestBusy
//	an error in the 200 to a Complete        TestCompleteError200
//	400 to a HEAD, without a reason          TestRefused
//	403 for a missing key if the client      both servers answer 404: TestOpenRefused
//	can't list
//	policies and roles                       the key may do everything: TestOpenRefused and TestRefused,
//	                                         and deploy's TestS3, which checks what each call needs
//	credentials that expire                  neither issues any: TestCredentialsSources, TestCredentialsRefresh
//	301 from another region                  MinIO accepts any, versitygw answers 400: TestOpenRefused
//	storage classes                          versitygw stores all as STANDARD, MinIO has few: TestRequests
//	                                         checks the requests
//	SSE-S3 and SSE-KMS                       versitygw ignores them: TestProbe, and the suite on MinIO
//	deletes by tag                           MinIO ignores the tag: the suite on versitygw
//	a prefix of uploads                      MinIO finds nothing by it: not requested
//	more than 1,000 keys in a DeleteObjects  versitygw accepts them: TestDeleteBatches
//	an object that is as old as its upload   both report the time of completion: memory.S3, on
//	                                         which blobstore is tested
//	uploads that a lifecycle rule aborts     neither has the rule: TestPartRefusedEarly aborts an upload,
//	                                         deploy's TestS3Lifecycle reads the rule
//	no CRC-32C of the whole object (R2)      the suite on the double, TestProbeUnsupportedRequests
//	parts of one size (R2)                   the suite on the double, TestEqualParts
//	one write of a key a second (R2)         TestBusy, TestProbeBusyRaces
//	conditions that are not atomic, wrong    TestProbeAtomic, TestIgnoredChecksums,
//	checksums accepted, Complete that        TestCompleteCondition
//	replaces (other stores)
//	accelerated, dual-stack, FIPS endpoints  TestSignBase checks the URLs
//	versions and locks                       they cost money, and change no response
func subjects() map[string]subject {
	on := func(start func(testing.TB) *emulator.S3, change func(*Config)) func(*testing.T) func(*testing.T) Config {
		return func(t *testing.T) func(*testing.T) Config {
			s := start(t)
			return func(t *testing.T) Config {
				cfg := newBucketOf(t, s)
				change(&cfg)
				return cfg
			}
		}
	}
	of := func(knobs s3double.Knobs, checksum string) func(*testing.T) func(*testing.T) Config {
		return func(t *testing.T) func(*testing.T) Config {
			knobs.MinPart = smallPart
			s := s3double.New(t, knobs)
			return func(*testing.T) Config {
				cfg := newBucketOfDouble(s)
				cfg.Checksum = checksum
				return cfg
			}
		}
	}
	return map[string]subject{
		"double":       {start: of(s3double.Knobs{PageSize: 20}, ""), small: true},
		"double as R2": {start: of(s3double.CloudflareR2(), ""), long: true, small: true},
		// With SSE-KMS the ETags of equal parts differ.
		"double with SSE-KMS": {start: of(s3double.Knobs{RandomETags: true}, ""), small: true},
		// Without checksums payloads are hashed, and DeleteObjects has
		// Content-MD5 only.
		"double without checksums": {start: of(s3double.Knobs{}, "none"), gaps: map[string]string{"BodyChecksum": "the CRC-32C is not sent"}, small: true},

		// The emulator's proxy makes versitygw's conditional deletes atomic.
		"versitygw": {start: on(emulator.VersityGW, func(*Config) {})},
		// Without the proxy, versitygw's delete by tag can remove a concurrent
		// write, so deletions leave empty objects.
		"versitygw alone": {start: on(emulator.VersityGWAlone, func(*Config) {}), gaps: map[string]string{
			"Keys":         "versitygw 1.8.0 replaces no key whose last segment is longer than 227 bytes: it answers ExistingObjectIsDirectory, because its temporary name is longer",
			"ReadReplaced": "versitygw 1.8.0 refuses a conditional PUT before it has read the body, and may close the connection of a large one without a response: here a Create of megabytes over an empty object, which berth never sends",
		}, long: true},
		"versitygw without checksums": {start: on(emulator.VersityGW, func(c *Config) { c.Checksum = "none" }), gaps: map[string]string{
			"BodyChecksum": "the CRC-32C is not sent",
			"CancelParts":  "while one CompleteMultipartUpload runs, versitygw 1.8.0 answers a second one with 200 before the object exists; only a missing checksum shows it",
		}, long: true},
		// MinIO ignores If-Match on DeleteObject, so deletions leave empty
		// objects.
		"MinIO":              {start: on(emulator.MinIO, func(*Config) {})},
		"MinIO with SSE-KMS": {start: on(emulator.MinIO, func(c *Config) { c.SSE, c.KMSKeyID = "aws:kms", emulator.MinIOKey }), long: true},
	}
}

// TestConformance runs the suite with few keys, parts and steps. Each store is
// probed once.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, s := range subjects() {
		if s.long {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := s.start(t)
			can := openBucket(t, config(t)).capabilities
			suite := s.suite(config, func(ctx context.Context, cfg Config) (drivers.Bucket, error) {
				c, err := connect(ctx, cfg)
				if err != nil {
					return nil, err
				}
				signer, err := newSigner(ctx, &cfg, c.sdk)
				if err != nil {
					return nil, err
				}
				return newBucket(c, signer, can), nil
			})
			suite.Keys, suite.Parts, suite.Workers, suite.Steps = 50, 3, 4, 40
			drivertest.Run(t, suite)
		})
	}
}

// TestLongConformance runs the suite with more than a page of keys. Every Open
// probes the store.
func TestLongConformance(t *testing.T) {
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("takes minutes: BERTH_TEST_LONG is not set")
	}
	t.Parallel()
	for name, s := range subjects() {
		t.Run(name, func(t *testing.T) {
			suite := s.suite(s.start(t), Open)
			suite.Keys, suite.Parts, suite.Workers, suite.Steps = 1100, 8, 8, 100
			drivertest.Run(t, suite)
		})
	}
}

// suite returns a suite that runs each case in a new bucket, under a prefix.
func (s subject) suite(config func(*testing.T) Config, open func(context.Context, Config) (drivers.Bucket, error)) drivertest.Suite {
	return drivertest.Suite{
		Like: memory.S3(),
		Gaps: s.gaps,
		New: func(t *testing.T) drivertest.Opener {
			cfg := config(t)
			cfg.Prefix = "some/prefix"
			return func(ctx context.Context) (drivers.Bucket, error) {
				b, err := open(ctx, cfg)
				if err == nil && s.small {
					b.(*bucket).limits.MinPart = smallPart
				}
				return b, err
			}
		},
	}
}

// TestConformanceReal runs the suite on a real bucket, with the SDK's default
// credentials. BERTH_TEST_S3 names it as s3://bucket/prefix, with any of the
// parameters region, endpoint, path_style, sse, kms_key_id, checksum and
// equal_parts. Each case has a separate prefix under that prefix, and deletes
// everything there at its end.
func TestConformanceReal(t *testing.T) {
	name := os.Getenv("BERTH_TEST_S3")
	if name == "" {
		t.Skip("NOT TESTED ON A REAL BUCKET: BERTH_TEST_S3 names none, as s3://bucket/prefix?region=eu-west-1")
	}
	u, err := url.Parse(name)
	if err != nil || u.Scheme != "s3" {
		t.Fatalf("BERTH_TEST_S3: %q, want s3://bucket/prefix: %v", name, err)
	}
	q := u.Query()
	drivertest.Run(t, drivertest.Suite{
		Like: memory.S3(),
		New: func(t *testing.T) drivertest.Opener {
			cfg := Config{
				Bucket: u.Host, Prefix: strings.Trim(u.Path, "/") + "/" + rand.Text(), Region: q.Get("region"),
				Endpoint: q.Get("endpoint"), PathStyle: q.Get("path_style") == "true", SSE: q.Get("sse"), KMSKeyID: q.Get("kms_key_id"),
				Checksum: q.Get("checksum"),
			}
			if q.Has("equal_parts") {
				cfg.EqualParts = new(q.Get("equal_parts") == "true")
			}
			b := openBucket(t, cfg)
			t.Cleanup(func() { empty(t, b) })
			return func(ctx context.Context) (drivers.Bucket, error) { return Open(ctx, cfg) }
		},
		Keys: 1100, Parts: 12, Workers: 8,
	})
}

// empty deletes all objects and uploads under the bucket's prefix.
func empty(t *testing.T, b *bucket) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	for u, err := range b.Uploads(ctx, "") {
		if err == nil {
			err = b.Abort(ctx, u)
		}
		if err != nil {
			t.Errorf("cleanup of the bucket: %v", err)
		}
	}
	keys := []string{emptyMark}
	all := *b
	all.emptyIsAbsent = false // so that List returns empty objects too
	for o, err := range all.List(ctx, "", "", 0) {
		if err != nil {
			t.Errorf("cleanup of the bucket: %v", err)
		}
		keys = append(keys, o.Key)
	}
	if err := b.store.deleteAll(ctx, keys); err != nil {
		t.Errorf("cleanup of the bucket: %v", err)
	}
}
