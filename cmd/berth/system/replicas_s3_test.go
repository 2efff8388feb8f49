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
	s3driver "github.com/berthhq/berth/drivers/s3"
)

func replicatedVersityGW(t *testing.T) sharedStore { return replicatedS3(t, emulator.VersityGW(t)) }

func replicatedMinIO(t *testing.T) sharedStore { return replicatedS3(t, emulator.MinIO(t)) }

// replicatedS3 returns an empty bucket of the server.
func replicatedS3(t *testing.T, s *emulator.S3) sharedStore {
	t.Helper()
	env := s3Env(t, s)
	bucket := settingOf(env, "BERTH_STORAGE_S3_BUCKET")
	return sharedStore{
		env: env, setting: "BERTH_STORAGE_S3_ENDPOINT", endpoint: s.Endpoint, part: s3Part, life: time.Second,
		requests: []string{startsUpload, storesPart, completes, writesSession, writesRecord, writesLink},
		orphans:  true,
		open: func(ctx context.Context) (drivers.Bucket, error) {
			return s3driver.Open(ctx, s3driver.Config{
				Bucket: bucket, Region: s.Region, Endpoint: s.Endpoint, PathStyle: true,
				AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey,
			})
		},
		list: func(t *testing.T) []string { return listS3(t, s, bucket) },
	}
}

// listS3 returns the objects and uploads of a bucket, except three kinds: empty
// objects, which stand for deleted objects on stores without conditional deletes; the
// marker that records this; and objects that a killed start has probed the store with,
// which a later start deletes.
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

// s3Env returns the environment of a berth on an empty bucket of the server.
func s3Env(t *testing.T, s *emulator.S3) []string {
	t.Helper()
	return append(cleanEnv(),
		"BERTH_STORAGE_DRIVER=s3", "BERTH_STORAGE_S3_BUCKET="+s.Bucket(t), "BERTH_STORAGE_S3_REGION="+s.Region,
		"BERTH_STORAGE_S3_ENDPOINT="+s.Endpoint, "BERTH_STORAGE_S3_PATH_STYLE=true",
		"BERTH_STORAGE_S3_ACCESS_KEY_ID="+s.AccessKeyID, "BERTH_STORAGE_S3_SECRET_ACCESS_KEY="+s.SecretAccessKey)
}

// s3Client returns a client of the server's owner, to set up buckets.
func s3Client(s *emulator.S3) *s3.Client {
	return s3.New(s3.Options{
		Region: s.Region, BaseEndpoint: &s.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, ""),
	})
}
