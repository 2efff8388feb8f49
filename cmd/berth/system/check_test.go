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

// runCheck runs `berth check --json` and returns the result of each step.
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
		t.Errorf("berth check exited with %v, want 1 if a step failed, otherwise 0\n%s%s", cmd.ProcessState, &stdout, &stderr)
	}
	steps := map[string]check.Result{}
	for _, r := range results {
		steps[r.Step] = r
	}
	return steps
}

// bucketSteps are the steps of berth check on any bucket.
var bucketSteps = []string{
	"open", "write and read", "write and read data", "create-only, raced", "compare-and-swap, raced", "conditional delete", "list after write",
	"ranged reads", "multipart upload", "parts of different sizes", "a replaced part is refused", "uploads listed and aborted", "clock", "presigned GET",
	"presigned GET, tampered or expired", "redirected GET", "clean up", "abandoned uploads", "lifecycle rules", "versions", "soft delete",
}

// checkedServer is a server, and the results that differ from check.OK.
type checkedServer struct {
	name  string
	env   func(t *testing.T) []string
	steps []string // in addition to bucketSteps
	want  map[string]check.Status
}

var (
	s3Steps  = []string{"archive tiers", "object lock", "requester pays"}
	gcsSteps = []string{"retention", "holds", "requester pays", "hierarchical namespace"}
)

func checkedServers(t *testing.T) []checkedServer {
	t.Helper()
	minIO := emulator.MinIO(t)
	versityGW := map[string]check.Status{
		"abandoned uploads": check.Skipped, "lifecycle rules": check.Skipped, "soft delete": check.Skipped,
		"archive tiers": check.Skipped, "requester pays": check.Skipped,
	}
	return []checkedServer{
		{"versitygw", func(t *testing.T) []string { return s3Env(t, emulator.VersityGW(t)) }, s3Steps, versityGW},
		{"versitygw without a proxy", func(t *testing.T) []string { return s3Env(t, emulator.VersityGWAlone(t)) }, s3Steps, versityGW},
		{"MinIO", func(t *testing.T) []string { return s3Env(t, minIO) }, s3Steps, map[string]check.Status{
			"abandoned uploads": check.Warning, "soft delete": check.Skipped, "archive tiers": check.Skipped,
		}},
		{"MinIO with a rule that deletes blobs", func(t *testing.T) []string { return expiringMinIO(t, minIO) }, s3Steps, map[string]check.Status{
			"abandoned uploads": check.Warning, "lifecycle rules": check.Failed, "versions": check.Warning, "soft delete": check.Skipped,
			"archive tiers": check.Skipped,
		}},
		{"MinIO without the storage class", func(t *testing.T) []string {
			return append(s3Env(t, minIO), "BERTH_STORAGE_S3_STORAGE_CLASS=NONSENSE")
		}, s3Steps, map[string]check.Status{
			"write and read data": check.Failed, "multipart upload": check.Failed, "abandoned uploads": check.Warning, "soft delete": check.Skipped,
			"redirected GET": check.Failed, "archive tiers": check.Skipped, "parts of different sizes": check.Failed,
		}},
		{"fake-gcs-server", func(t *testing.T) []string { return gcsEnv(t, emulator.FakeGCS(t)) }, gcsSteps, map[string]check.Status{
			"abandoned uploads": check.Warning,
		}},
		{"Azurite", func(t *testing.T) []string { return azureEnv(t, emulator.Azurite(t)) }, nil, map[string]check.Status{
			"lifecycle rules": check.Skipped, "uploads listed and aborted": check.Skipped,
		}},
	}
}

// TestCheckOnServers runs `berth check` on each server.
func TestCheckOnServers(t *testing.T) {
	t.Parallel()
	for _, s := range checkedServers(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			steps := runCheck(t, s.env(t))
			for step, r := range steps {
				want, ok := s.want[step]
				if !ok {
					want = check.OK
				}
				if r.Status != want {
					t.Errorf("%+v, want %s", r, want)
				}
			}
			want := slices.Sorted(slices.Values(slices.Concat(bucketSteps, s.steps)))
			if diff := cmp.Diff(want, slices.Sorted(maps.Keys(steps))); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

// expiringMinIO returns the environment of a berth on a bucket of the server that keeps
// versions and deletes objects by their age.
func expiringMinIO(t *testing.T, server *emulator.S3) []string {
	t.Helper()
	env := s3Env(t, server)
	bucket := settingOf(env, "BERTH_STORAGE_S3_BUCKET")
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
	return env
}

// TestCheckCDN runs `berth check` with a CDN set up as in deploy/cdn. The bucket has
// the record of a blob, which the CDN must not serve.
func TestCheckCDN(t *testing.T) {
	t.Parallel()
	e := startEdge(t)
	if err := e.push(t.Context(), []byte("a small blob, which is stored in its record")); err != nil {
		t.Fatal(err)
	}
	steps := runCheck(t, e.env, "--config", e.config)
	for _, step := range []string{"data", "signatures", "reads only", "nothing but data"} {
		if r := steps["CDN edge: "+step]; r.Status != check.OK {
			t.Errorf("CDN edge: %s = %+v, want %s", step, r, check.OK)
		}
	}
	if r := steps["CDN edge: nothing but data"]; !strings.Contains(r.Detail, "blobs/ and listings are refused") {
		t.Errorf("CDN edge: nothing but data = %q, want the record requested", r.Detail)
	}
}
