package system

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// replicatedAzure returns an empty container of a new server.
func replicatedAzure(t *testing.T) sharedStore {
	t.Helper()
	s := emulator.Azurite(t)
	env := azureEnv(t, s)
	name := settingOf(env, "BERTH_STORAGE_AZURE_CONTAINER")
	return sharedStore{
		env: env, setting: "BERTH_STORAGE_AZURE_ENDPOINT", endpoint: s.Endpoint, part: leastPart, life: time.Second,
		requests: []string{storesPart, completes, writesSession, writesRecord, writesLink},
		open: func(ctx context.Context) (drivers.Bucket, error) {
			return azure.Open(ctx, azure.Config{Account: s.Account, Container: name, Endpoint: s.Endpoint, SharedKey: s.SharedKey})
		},
		list: func(t *testing.T) []string { return listAzure(t, s, name) },
	}
}

// listAzure returns the blobs of a container, except those that a killed start has
// probed the store with. It does not list blobs that have staged blocks only, which
// the service deletes after a week.
func listAzure(t *testing.T, s *emulator.Azure, name string) (found []string) {
	t.Helper()
	key, err := container.NewSharedKeyCredential(s.Account, s.SharedKey)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientWithSharedKeyCredential(s.Endpoint+"/"+name, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	for pages := client.NewListBlobsFlatPager(nil); pages.More(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, blob := range page.Segment.BlobItems {
			if !strings.HasPrefix(*blob.Name, "parts/probe/") {
				found = append(found, *blob.Name)
			}
		}
	}
	return found
}

// azureEnv returns the environment of a berth on an empty container of the server.
func azureEnv(t *testing.T, s *emulator.Azure) []string {
	t.Helper()
	return append(cleanEnv(),
		"BERTH_STORAGE_DRIVER=azure", "BERTH_STORAGE_AZURE_CONTAINER="+s.Container(t), "BERTH_STORAGE_AZURE_ENDPOINT="+s.Endpoint,
		"BERTH_STORAGE_AZURE_ACCOUNT="+s.Account, "BERTH_STORAGE_AZURE_SHARED_KEY="+s.SharedKey)
}
