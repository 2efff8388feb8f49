package system

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	berths3 "github.com/berthhq/berth/drivers/s3"
)

// TestReplicasOnS3 is TestReplicasOnADirectory on versitygw and on MinIO, where
// deletions leave empty objects.
func TestReplicasOnS3(t *testing.T) {
	for name, server := range map[string]func(testing.TB) *emulator.S3{"versitygw": emulator.VersityGW, "MinIO": emulator.MinIO} {
		t.Run(name, func(t *testing.T) {
			s := server(t)
			env := s3Env(t, s)
			bucket := settingOf(env, "BERTH_STORAGE_S3_BUCKET")
			testReplicas(t, sharedStore{
				env: env, setting: "BERTH_STORAGE_S3_ENDPOINT", endpoint: s.Endpoint, part: s3Part, life: time.Second,
				requests: []string{startsUpload, storesPart, completes, writesState, writesRecord, writesLink},
				orphans:  true,
				open: func(ctx context.Context) (drivers.Bucket, error) {
					return berths3.Open(ctx, berths3.Config{
						Bucket: bucket, Region: s.Region, Endpoint: s.Endpoint, PathStyle: true,
						AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey,
					})
				},
				lists: func(t *testing.T) []string { return listS3(t, s, bucket) },
			})
		})
	}
}

// listS3 is the objects and uploads of a bucket, but for the empty objects that
// take the place of others where they can't be deleted by tag, the mark that
// records that, and what a start that was killed has tried out, which a later one
// deletes.
func listS3(t *testing.T, s *emulator.S3, bucket string) (found []string) {
	t.Helper()
	client := s3Client(s)
	for pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			if key := *o.Key; *o.Size > 0 && key != "parts/empty-is-absent" && !strings.HasPrefix(key, "parts/probe-") {
				found = append(found, key)
			}
		}
	}
	uploads, err := client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uploads.Uploads {
		found = append(found, "upload of "+*u.Key)
	}
	return found
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
