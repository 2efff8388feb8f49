package system

import (
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/cmd/berth/check"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// doubleEnv returns the environment of a berth process that uses a double of S3.
func doubleEnv(s *s3double.Store) []string {
	return append(cleanEnv(),
		"BERTH_STORAGE_DRIVER=s3", "BERTH_STORAGE_S3_BUCKET="+s.Bucket(), "BERTH_STORAGE_S3_REGION="+s3double.Region,
		"BERTH_STORAGE_S3_ENDPOINT="+s.Endpoint(), "BERTH_STORAGE_S3_PATH_STYLE=true",
		"BERTH_STORAGE_S3_ACCESS_KEY_ID="+s3double.AccessKeyID, "BERTH_STORAGE_S3_SECRET_ACCESS_KEY="+s3double.SecretAccessKey)
}

// TestCheckAlsoThrough tests stores that are safe through one endpoint and unsafe
// through two: nodes without a common lock, and regions that copy from each other later.
func TestCheckAlsoThrough(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		knobs s3double.Knobs
		want  check.Status // of races through both endpoints
	}{
		{"one store", s3double.Knobs{}, check.OK},
		{"separate nodes", s3double.Knobs{Locks: s3double.Apart, Delay: 200 * time.Millisecond}, check.Failed},
		{"regions", s3double.Knobs{Lag: time.Minute}, check.Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := s3double.New(t, tc.knobs)
			env := doubleEnv(s)
			other := s.Front(t, "b")
			races := []string{"create-only, raced", "compare-and-swap, raced"}
			alone := runCheck(t, env)
			for _, race := range races {
				if r := alone[race]; r.Status != check.OK {
					t.Errorf("%s through one endpoint = %+v, want %s", race, r, check.OK)
				}
			}
			both := runCheck(t, env, "--also-through", other)
			for _, race := range races {
				if r := both[race]; r.Status != tc.want || r.Status == check.OK && !strings.Contains(r.Detail, "2 endpoints") {
					t.Errorf("%s through two endpoints = %+v, want %s", race, r, tc.want)
				}
			}
		})
	}
}

// TestCheckAlsoThroughRefused tests endpoints that berth check cannot use.
func TestCheckAlsoThroughRefused(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.Knobs{})
	for url, env := range map[string][]string{
		"node2":                        doubleEnv(s),
		"http://user:hush@127.0.0.1:1": doubleEnv(s),
		"http://127.0.0.1:1":           append(doubleEnv(s), "BERTH_STORAGE_S3_RETRIES=0"),
		s.Endpoint():                   cleanEnv(),
	} {
		if r := runCheck(t, env, "--also-through", url)["open"]; r.Status == check.OK || !strings.Contains(r.Detail, "--also-through") || strings.Contains(r.Detail, "hush") {
			t.Errorf("--also-through %s = %+v, want an error that names the flag and shows no password", url, r)
		}
	}
}

// TestCheckUnequalParts tests a store that requires parts of one size, and that berth
// does not recognise by its host.
func TestCheckUnequalParts(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.CloudflareR2())
	env := doubleEnv(s)
	const step = "parts of different sizes"
	if r := runCheck(t, env)[step]; r.Status != check.Failed || !strings.Contains(r.Fix, "storage.s3.equal_parts") {
		t.Errorf("%+v, want %s with storage.s3.equal_parts", r, check.Failed)
	}
	if r := runCheck(t, append(env, "BERTH_STORAGE_S3_EQUAL_PARTS=true"))[step]; r.Status != check.Skipped {
		t.Errorf("with parts of one size: %+v, want %s", r, check.Skipped)
	}
}
