package system

import (
	"context"
	"errors"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/gcs"
)

// replicatedGCS returns an empty bucket of a new server.
func replicatedGCS(t *testing.T) sharedStore {
	t.Helper()
	s := emulator.FakeGCS(t)
	env := gcsEnv(t, s)
	bucket := settingOf(env, "BERTH_STORAGE_GCS_BUCKET")
	return sharedStore{
		env: env, setting: "BERTH_STORAGE_GCS_ENDPOINT", endpoint: s.Endpoint, part: leastPart, life: time.Second,
		requests: []string{storesPart, completes, writesSession, writesRecord, writesLink},
		orphans:  true,
		open: func(ctx context.Context) (drivers.Bucket, error) {
			return gcs.Open(ctx, gcs.Config{Bucket: bucket, Endpoint: s.Endpoint, CredentialsFile: s.CredentialsFile})
		},
		list: func(t *testing.T) []string { return listGCS(t, s, bucket) },
	}
}

// listGCS returns the objects of a bucket.
func listGCS(t *testing.T, s *emulator.GCS, bucket string) (found []string) {
	t.Helper()
	client, err := storage.NewClient(t.Context(), option.WithEndpoint(s.Endpoint+"/storage/v1/"),
		option.WithAuthCredentialsFile(option.ServiceAccount, s.CredentialsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // it has only read
	for objects := client.Bucket(bucket).Objects(t.Context(), nil); ; {
		o, err := objects.Next()
		if errors.Is(err, iterator.Done) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, o.Name)
	}
}

// gcsEnv returns the environment of a berth on an empty bucket of the server.
func gcsEnv(t *testing.T, s *emulator.GCS) []string {
	t.Helper()
	return append(cleanEnv(),
		"BERTH_STORAGE_DRIVER=gcs", "BERTH_STORAGE_GCS_BUCKET="+s.Bucket(t), "BERTH_STORAGE_GCS_ENDPOINT="+s.Endpoint,
		"BERTH_STORAGE_GCS_CREDENTIALS_FILE="+s.CredentialsFile)
}
