package main

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestReplicasOnS3 is TestReplicasOnADirectory on versitygw and on MinIO, where
// deletions leave empty objects.
func TestReplicasOnS3(t *testing.T) {
	for name, server := range map[string]func(testing.TB) *emulator.S3{"versitygw": emulator.VersityGW, "MinIO": emulator.MinIO} {
		t.Run(name, func(t *testing.T) {
			env := s3Env(t, server(t))
			testReplicas(t, env)
		})
	}
}

// s3Env is the environment of a berth on an empty bucket of the server.
func s3Env(t *testing.T, s *emulator.S3) []string {
	t.Helper()
	return append(cleanEnv(),
		"BERTH_STORAGE_DRIVER=s3", "BERTH_STORAGE_S3_BUCKET="+s.Bucket(t), "BERTH_STORAGE_S3_REGION="+s.Region,
		"BERTH_STORAGE_S3_ENDPOINT="+s.Endpoint, "BERTH_STORAGE_S3_PATH_STYLE=true",
		"BERTH_STORAGE_S3_ACCESS_KEY_ID="+s.AccessKeyID, "BERTH_STORAGE_S3_SECRET_ACCESS_KEY="+s.SecretAccessKey)
}

// s3Client sets up buckets of the server as their owner would.
func s3Client(s *emulator.S3) *s3.Client {
	return s3.New(s3.Options{
		Region: s.Region, BaseEndpoint: &s.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, ""),
	})
}
