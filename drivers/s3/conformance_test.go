package s3

import (
	"context"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/memory"
)

// gaps are the cases that a server does not pass, and why. None of them is in
// both columns: what berth depends on is proven on one at least.
var gaps = map[string]map[string]string{
	"versitygw": {
		"CancelParts": "while one CompleteMultipartUpload runs, versitygw 1.8.0 answers a second one 200 before there is an object",
	},
	"MinIO": {},
}

// configOf is how to reach a bucket of the server.
func configOf(s *emulator.S3, bucket string) Config {
	return Config{
		Bucket: bucket, Region: s.Region, Endpoint: s.Endpoint, PathStyle: true,
		AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey,
	}
}

// suite gives each case a bucket of its own, and in it a prefix.
func suite(s *emulator.S3, change func(*Config)) drivertest.Suite {
	return drivertest.Suite{
		Like: memory.S3(),
		New: func(t *testing.T) drivertest.Opener {
			cfg := configOf(s, s.Bucket(t))
			cfg.Prefix = "some/prefix"
			change(&cfg)
			return func(ctx context.Context) (drivers.Bucket, error) { return Open(ctx, cfg) }
		},
		Keys: 1100, Parts: 12, Workers: 8, Steps: 150,
	}
}

func TestConformanceVersityGW(t *testing.T) {
	t.Parallel()
	s := suite(emulator.VersityGW(t), func(*Config) {})
	s.Gaps = gaps["versitygw"]
	drivertest.Run(t, s)
}

// MinIO ignores If-Match on DeleteObject, so that deletions leave empty objects.
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
	s.Keys = 100 // paging is no different
	drivertest.Run(t, s)
}

// Stores that know no checksums get hashed payloads, and no DeleteObjects with
// anything but Content-MD5.
func TestConformanceNoChecksums(t *testing.T) {
	t.Parallel()
	s := suite(emulator.VersityGW(t), func(cfg *Config) { cfg.Checksum = "none" })
	s.Gaps = map[string]string{
		"BodyChecksum": "the CRC-32C is not sent",
		"CancelParts":  gaps["versitygw"]["CancelParts"],
	}
	s.Keys = 100
	drivertest.Run(t, s)
}
