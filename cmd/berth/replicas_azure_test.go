package main

import (
	"testing"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestReplicasOnAzure is TestReplicasOnADirectory on Azurite.
func TestReplicasOnAzure(t *testing.T) {
	env := azureEnv(t, emulator.Azurite(t))
	testReplicas(t, env)
}

// azureEnv is the environment of a berth on an empty container of the server.
func azureEnv(t *testing.T, s *emulator.Azure) []string {
	t.Helper()
	return append(cleanEnv(),
		"BERTH_STORAGE_DRIVER=azure", "BERTH_STORAGE_AZURE_CONTAINER="+s.Container(t), "BERTH_STORAGE_AZURE_ENDPOINT="+s.Endpoint,
		"BERTH_STORAGE_AZURE_ACCOUNT="+s.Account, "BERTH_STORAGE_AZURE_SHARED_KEY="+s.SharedKey)
}
