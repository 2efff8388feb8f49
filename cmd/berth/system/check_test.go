package system

import (
	"bytes"
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/cmd/berth/check"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// runCheck runs `berth check --json`, and returns how each step went.
func runCheck(t *testing.T, env []string, args ...string) map[string]check.Result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(buildDir, "berth"), append([]string{"check", "--json"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = t.TempDir(), env, &stdout, &stderr
	failed := cmd.Run() != nil
	var results []check.Result
	if err := json.Unmarshal(stdout.Bytes(), &results); err != nil {
		t.Fatalf("berth check --json: %v\n%s%s", err, &stdout, &stderr)
	}
	if failed == check.Passed(results) {
		t.Errorf("berth check exits with %v, want 1 just where a step failed\n%s%s", cmd.ProcessState, &stdout, &stderr)
	}
	steps := map[string]check.Result{}
	for _, r := range results {
		steps[r.Step] = r
	}
	return steps
}

// bucketSteps are what berth check does with any bucket.
var bucketSteps = []string{
	"open", "write and read", "write and read data", "create-only, raced", "compare-and-swap, raced", "conditional delete", "list after write",
	"ranged reads", "multipart upload", "parts of different sizes", "a replaced part is refused", "uploads listed and aborted", "clock", "presigned GET",
	"presigned GET, tampered or expired", "redirected GET", "clean up", "abandoned uploads", "lifecycle rules", "versions", "soft delete",
}

// TestCheckOnServers proves each server, all steps but those named here being ok.
func TestCheckOnServers(t *testing.T) {
	versity := map[string]check.Status{
		"abandoned uploads": check.Skipped, "lifecycle rules": check.Skipped, "soft delete": check.Skipped,
		"archive tiers": check.Skipped, "requester pays": check.Skipped,
	}
	for name, c := range map[string]struct {
		env  func(t *testing.T) []string
		want map[string]check.Status
	}{
		"versitygw": {
			func(t *testing.T) []string { return s3Env(t, emulator.VersityGW(t)) },
			versity,
		},
		"versitygw alone, where the driver makes conditional deletes": {
			func(t *testing.T) []string { return s3Env(t, emulator.VersityGWAlone(t)) },
			versity,
		},
		"MinIO": {
			func(t *testing.T) []string { return s3Env(t, emulator.MinIO(t)) },
			map[string]check.Status{"abandoned uploads": check.Warning, "soft delete": check.Skipped, "archive tiers": check.Skipped},
		},
		"MinIO, set to lose blobs": {
			func(t *testing.T) []string {
				server := emulator.MinIO(t)
				env := s3Env(t, server)
				expireAll(t, server, env)
				return env
			},
			map[string]check.Status{
				"abandoned uploads": check.Warning, "lifecycle rules": check.Failed, "versions": check.Warning, "soft delete": check.Skipped,
				"archive tiers": check.Skipped,
			},
		},
		"MinIO, without the class": {
			func(t *testing.T) []string {
				return append(s3Env(t, emulator.MinIO(t)), "BERTH_STORAGE_S3_STORAGE_CLASS=NONSENSE")
			},
			map[string]check.Status{
				"write and read data": check.Failed, "multipart upload": check.Failed, "abandoned uploads": check.Warning, "soft delete": check.Skipped,
				"redirected GET": check.Failed, "archive tiers": check.Skipped, "parts of different sizes": check.Failed,
			},
		},
		"fake-gcs-server": {
			func(t *testing.T) []string { return gcsEnv(t, emulator.FakeGCS(t)) },
			map[string]check.Status{"abandoned uploads": check.Warning},
		},
		"Azurite": {
			func(t *testing.T) []string { return azureEnv(t, emulator.Azurite(t)) },
			map[string]check.Status{"lifecycle rules": check.Skipped, "uploads listed and aborted": check.Skipped},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := runCheck(t, c.env(t))
			for step, r := range steps {
				want, ok := c.want[step]
				if !ok {
					want = check.OK
				}
				if r.Status != want {
					t.Errorf("%+v, want %s", r, want)
				}
			}
			all := bucketSteps
			switch name {
			case "fake-gcs-server":
				all = slices.Concat(all, []string{"retention", "holds", "requester pays", "hierarchical namespace"})
			case "Azurite":
			default:
				all = slices.Concat(all, []string{"archive tiers", "object lock", "requester pays"})
			}
			if diff := cmp.Diff(slices.Sorted(slices.Values(all)), slices.Sorted(maps.Keys(steps))); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

// expireAll gives the bucket of env a rule that deletes objects by their age, and
// versions.
func expireAll(t *testing.T, server *emulator.S3, env []string) {
	t.Helper()
	var bucket string
	for _, s := range env {
		if name, ok := strings.CutPrefix(s, "BERTH_STORAGE_S3_BUCKET="); ok {
			bucket = name
		}
	}
	client := s3Client(server)
	_, err := client.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
			ID: new("old"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: new("")},
			Expiration: &types.LifecycleExpiration{Days: new(int32(90))},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCheckCDN checks nginx as deploy/cdn sets it up, with a blob in the bucket
// with a record that nginx must not serve.
func TestCheckCDN(t *testing.T) {
	t.Parallel()
	e := startEdge(t)
	if err := e.push(t.Context(), []byte("a small blob, which is in its record")); err != nil {
		t.Fatal(err)
	}
	steps := runCheck(t, e.env, "--config", e.config)
	for _, step := range []string{"data", "signatures", "reads only", "nothing but data"} {
		if r := steps["CDN edge: "+step]; r.Status != check.OK {
			t.Errorf("CDN edge: %s: %+v, want %s", step, r, check.OK)
		}
	}
	if r := steps["CDN edge: nothing but data"]; !strings.Contains(r.Detail, "blobs/ and listings are refused") {
		t.Errorf("CDN edge: nothing but data: %q, want the record asked for", r.Detail)
	}
}
