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

// gaps are the cases that a server does not pass, with the reasons. No case is
// a gap of both servers, so each ability that berth depends on is tested on at
// least one. The emulator's proxy makes versitygw's conditional deletes atomic.
var gaps = map[string]map[string]string{
	"versitygw": {},
	"versitygw alone": {
		"Keys":         "versitygw 1.8.0 replaces no key whose last segment is longer than 227 bytes, and says ExistingObjectIsDirectory: it takes a longer temporary name",
		"ReadReplaced": "versitygw 1.8.0 refuses a conditional PUT before it has read the body, and may close the connection of a large one without an answer: so it is for a Create of megabytes over an empty object, which berth never makes",
	},
	"MinIO": {},
}

// The following behavior of Amazon S3 or Cloudflare R2 is not shown by the
// servers. The right column names the reason and what covers it:
//
//	409 to writes that are in conflict       only 412 comes: TestConflict, TestCompleteConflict
//	503 SlowDown, 429                        TestBusy
//	an error in the 200 to a Complete        TestCompleteError200
//	400 to a HEAD, without a reason          TestRefused
//	403 for a missing key if the client      both answer 404: TestOpenAdvice
//	can't list
//	policies and roles                       the key may do everything: TestOpenAdvice and TestRefused,
//	                                         and deploy's TestS3, which checks what each call needs
//	credentials that expire                  neither issues any: TestCredentialsSources, TestCredentialsRefresh
//	301 from another region                  MinIO takes any, versitygw answers 400: TestOpenAdvice
//	storage classes                          versitygw takes all as STANDARD, MinIO has few: TestRequests
//	                                         checks the requests
//	SSE-S3 and SSE-KMS                       versitygw ignores them: TestProbe and TestConformanceKMS on MinIO
//	deletes by tag                           MinIO ignores the tag: TestConformanceVersityGW
//	a prefix of uploads                      MinIO finds nothing by it: not asked for
//	more than 1,000 keys in a DeleteObjects  versitygw takes them: TestConformanceMinIO
//	an object that is as old as its upload   both report when it was completed: memory.S3, on
//	                                         which blobstore is tested
//	uploads that a lifecycle rule aborts     neither has the rule: TestPartRefusedEarly aborts one,
//	                                         deploy's TestS3Lifecycle reads the rule
//	no CRC-32C of the whole (R2)             TestLongConformanceDouble, TestProbeUnknown
//	parts of one size (R2)                   TestLongConformanceDouble, TestEqualParts
//	one write of a key a second (R2)         TestBusy, TestProbeBusyRaces
//	conditions that are not obeyed at once,  TestProbeAtomic, TestUnchecked, TestCompleteCondition
//	wrong checksums taken, Complete that
//	replaces (other makes)
//	accelerated, dual-stack, FIPS endpoints  TestSignBase checks the URLs
//	versions and locks                       they cost money, and change no answer

// suite runs each case in a new bucket, under a prefix.
func suite(s *emulator.S3, change func(*Config)) drivertest.Suite {
	return drivertest.Suite{
		Like: memory.S3(),
		New: func(t *testing.T) drivertest.Opener {
			cfg := configOf(s, s.Bucket(t))
			cfg.Prefix = "some/prefix"
			change(&cfg)
			return func(ctx context.Context) (drivers.Bucket, error) { return Open(ctx, cfg) }
		},
		Keys: 1100, Parts: 8, Workers: 8, Steps: 100,
	}
}

// TestConformanceDouble checks that the tests' double behaves like a store.
func TestConformanceDouble(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, doubleSuite(s3double.Knobs{}))
}

// TestLongConformanceDouble does the same for the double as Cloudflare R2, and
// with SSE-KMS.
func TestLongConformanceDouble(t *testing.T) {
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("takes half a minute: BERTH_TEST_LONG is not set")
	}
	t.Parallel()
	for name, knobs := range map[string]s3double.Knobs{"R2": s3double.CloudflareR2(), "KMS": {RandomETags: true}} {
		t.Run(name, func(t *testing.T) { drivertest.Run(t, doubleSuite(knobs)) })
	}
}

func doubleSuite(knobs s3double.Knobs) drivertest.Suite {
	return drivertest.Suite{
		Like: memory.S3(),
		New: func(t *testing.T) drivertest.Opener {
			cfg := configOfDouble(s3double.New(t, knobs))
			cfg.Prefix = "some/prefix"
			return func(ctx context.Context) (drivers.Bucket, error) { return Open(ctx, cfg) }
		},
		Keys: 1100, Parts: 8, Workers: 8, Steps: 100,
	}
}

// Behind the emulator's proxy versitygw deletes by tag.
func TestConformanceVersityGW(t *testing.T) {
	t.Parallel()
	s := suite(emulator.VersityGW(t), func(*Config) {})
	s.Gaps = gaps["versitygw"]
	drivertest.Run(t, s)
}

// Without the proxy, versitygw's delete by tag can remove a concurrent write,
// so deletions leave empty objects.
func TestConformanceVersityGWAlone(t *testing.T) {
	t.Parallel()
	s := suite(emulator.VersityGWAlone(t), func(*Config) {})
	s.Gaps = gaps["versitygw alone"]
	s.Keys, s.Steps = 50, 50
	drivertest.Run(t, s)
}

// MinIO ignores If-Match on DeleteObject, so deletions leave empty objects.
func TestConformanceMinIO(t *testing.T) {
	t.Parallel()
	s := suite(emulator.MinIO(t), func(*Config) {})
	s.Gaps = gaps["MinIO"]
	drivertest.Run(t, s)
}

// With SSE-KMS the ETags of equal parts differ.
func TestConformanceKMS(t *testing.T) {
	t.Parallel()
	s := suite(emulator.MinIO(t), func(cfg *Config) { cfg.SSE, cfg.KMSKeyID = "aws:kms", emulator.MinIOKey })
	s.Gaps = gaps["MinIO"]
	s.Keys = 50 // paging does not depend on it
	drivertest.Run(t, s)
}

// Stores without checksums get hashed payloads, and DeleteObjects with
// Content-MD5 only.
func TestConformanceNoChecksums(t *testing.T) {
	t.Parallel()
	s := suite(emulator.VersityGW(t), func(cfg *Config) { cfg.Checksum = "none" })
	s.Gaps = map[string]string{
		"BodyChecksum": "the CRC-32C is not sent",
		"CancelParts":  "while one CompleteMultipartUpload runs, versitygw 1.8.0 answers a second one 200 before there is an object; only the checksum that is not there tells",
	}
	s.Keys, s.Steps = 50, 50
	drivertest.Run(t, s)
}

// TestConformanceReal runs on a real bucket, with the SDK's default
// credentials. BERTH_TEST_S3 names it as s3://bucket/prefix, with any of the
// parameters region, endpoint, path_style, sse, kms_key_id, checksum and
// equal_parts. Each case has a separate prefix under it, which the case empties
// at its end.
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
			t.Errorf("emptying the bucket: %v", err)
		}
	}
	keys := []string{emptyMark}
	all := *b
	all.emptyIsAbsent = false
	for o, err := range all.List(ctx, "", "") {
		if err != nil {
			t.Errorf("emptying the bucket: %v", err)
		}
		keys = append(keys, o.Key)
	}
	if err := b.store.deleteAll(ctx, keys); err != nil {
		t.Errorf("emptying the bucket: %v", err)
	}
}
