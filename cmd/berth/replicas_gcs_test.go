package main

import (
	"testing"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestReplicasOnGCS is TestReplicasOnADirectory on fake-gcs-server, behind the
// strict proxy.
func TestReplicasOnGCS(t *testing.T) {
	env := gcsEnv(t, emulator.FakeGCS(t))
	testReplicas(t, env)
}

// gcsEnv is the environment of a berth on an empty bucket of the server.
func gcsEnv(t *testing.T, s *emulator.GCS) []string {
	t.Helper()
	return append(cleanEnv(),
		"BERTH_STORAGE_DRIVER=gcs", "BERTH_STORAGE_GCS_BUCKET="+s.Bucket(t), "BERTH_STORAGE_GCS_ENDPOINT="+s.Endpoint,
		"BERTH_STORAGE_GCS_CREDENTIALS_FILE="+s.CredentialsFile)
}
