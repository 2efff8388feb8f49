package s3

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// wantNothingLeft fails the test if a probe has left anything except the mark.
func wantNothingLeft(t *testing.T, s *s3double.Store, bucket, after string) {
	t.Helper()
	objects, uploads := s.Left(bucket)
	objects = slices.DeleteFunc(objects, func(key string) bool { return key == emptyMark })
	if len(objects) > 0 || len(uploads) > 0 {
		t.Errorf("%s leaves the objects %q and uploads of %q, want none", after, objects, uploads)
	}
}

// TestProbe checks the capabilities that Open finds for each server.
func TestProbe(t *testing.T) {
	t.Parallel()
	versity, alone, minio := emulator.VersityGW(t), emulator.VersityGWAlone(t), emulator.MinIO(t)
	for _, test := range []struct {
		name   string
		server *emulator.S3
		change func(*Config)
		want   capabilities
	}{
		{"versitygw", versity, func(*Config) {}, capabilities{conditionalDelete: true, checksums: checksumWhole}},
		{"versitygw, no checksums", versity, func(c *Config) { c.Checksum = "none" }, capabilities{conditionalDelete: true, checksums: checksumNone}},
		{"versitygw alone", alone, func(*Config) {}, capabilities{emptyIsAbsent: true, versityGW: true, checksums: checksumWhole}},
		{"MinIO", minio, func(*Config) {}, capabilities{emptyIsAbsent: true, checksums: checksumWhole}},
		{"MinIO, SSE-S3", minio, func(c *Config) { c.SSE = "AES256" }, capabilities{emptyIsAbsent: true, checksums: checksumWhole}},
		{"MinIO, SSE-KMS", minio, func(c *Config) { c.SSE, c.KMSKeyID = "aws:kms", emulator.MinIOKey }, capabilities{emptyIsAbsent: true, checksums: checksumSHA256}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := newBucketOf(t, test.server)
			test.change(&cfg)
			b := openBucket(t, cfg)
			if b.capabilities != test.want {
				t.Errorf("capabilities = %+v, want %+v", b.capabilities, test.want)
			}
			page, err := b.store.client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: b.store.bucket()})
			if err != nil {
				t.Fatal(err)
			}
			var left, want []string
			for _, o := range page.Contents {
				left = append(left, *o.Key)
			}
			if test.want.emptyIsAbsent {
				want = []string{emptyMark}
			}
			if !slices.Equal(left, want) {
				t.Errorf("the probe leaves %q, want %q", left, want)
			}
			for u, err := range b.Uploads(t.Context(), "") {
				t.Errorf("the probe leaves an upload %+v, %v", u, err)
			}
		})
	}
}

// TestProbeIgnoredConditions opens stores that ignore a condition.
func TestProbeIgnoredConditions(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	for _, header := range []string{"If-None-Match", "If-Match"} {
		proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if operation(r) != "PutObject" || r.Header.Get(header) == "" {
				return false
			}
			w.Header().Set("ETag", `"0123"`)
			return true
		})
		_, err := Open(t.Context(), cfg)
		wantText(t, err, "ignores "+header, "Open of a store that ignores "+header)
		wantNoClaim(t, err, "Open of a store that ignores "+header)
	}
}

// TestProbeUnsupportedRequests opens a store that refuses requests that it does
// not support.
func TestProbeUnsupportedRequests(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		unsupported := operation(r) == "CreateMultipartUpload" && r.Header.Get("x-amz-checksum-type") != "" ||
			operation(r) == "DeleteObject" && r.Header.Get("If-Match") != ""
		return unsupported && refuse(w, http.StatusNotImplemented, "NotImplemented")
	})
	b := openBucket(t, cfg)
	if want := (capabilities{emptyIsAbsent: true, checksums: checksumParts}); b.capabilities != want {
		t.Errorf("capabilities = %+v, want %+v", b.capabilities, want)
	}
	u, part := startUpload(t, b, "data/u")
	if _, err := complete(t, b, u, part); err != nil {
		t.Fatalf("Complete without a checksum of the whole object = %v", err)
	}
	wantObject(t, b, "data/u", "part")

	proxy.intercept(refuseAll("CreateMultipartUpload", http.StatusNotImplemented, "NotImplemented"))
	_, err := Open(t.Context(), cfg)
	wantText(t, err, "s3.Config.Checksum", "Open of a store that refuses CRC-32C")
}

// TestProbeDenied opens a store that denies access to one request of a multipart
// upload, once or always.
func TestProbeDenied(t *testing.T) {
	t.Parallel()
	for _, denied := range []string{"CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} {
		t.Run(denied, func(t *testing.T) {
			t.Parallel()
			proxy, cfg := newProxy(t)
			var requests atomic.Int32
			deny := refuseAll(denied, http.StatusForbidden, "AccessDenied")
			proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				return operation(r) == denied && requests.Add(1) == 1 && deny(w, r)
			})
			b := openBucket(t, cfg)
			if want := (capabilities{conditionalDelete: true, checksums: checksumWhole}); b.capabilities != want {
				t.Errorf("capabilities of a store that denied one request = %+v, want %+v", b.capabilities, want)
			}
			proxy.intercept(deny)
			_, err := Open(t.Context(), cfg)
			wantRefused(t, err, "Open of a store that denies every request")
			wantText(t, err, "s3:PutObject", "Open of a store that denies every request")
		})
	}
}

// TestProbeFails has each operation fail in turn. The probe deletes what it
// wrote.
func TestProbeFails(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"PutObject", "HeadObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			s := s3double.New(t, s3double.Knobs{})
			cfg := newBucketOfDouble(s)
			s.Set(s3double.Knobs{Faults: map[string]s3double.Fault{operation: {Status: http.StatusForbidden, Code: "AccessDenied"}}})
			if _, err := Open(t.Context(), cfg); !errors.Is(err, drivers.ErrRefused) {
				t.Errorf("Open = %v, want %v", err, drivers.ErrRefused)
			}
			wantNothingLeft(t, s, cfg.Bucket, "Open")
		})
	}
	s := s3double.New(t, s3double.Knobs{Conditions: s3double.Ignored})
	cfg := newBucketOfDouble(s)
	_, err := Open(t.Context(), cfg)
	wantText(t, err, "ignores If-None-Match", "Open of a store that ignores conditions")
	wantNothingLeft(t, s, cfg.Bucket, "Open of a store that ignores conditions")
}

// TestProbeNoConditions opens a store that does not support conditions.
func TestProbeNoConditions(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.Knobs{Conditions: s3double.Unsupported})
	cfg := newBucketOfDouble(s)
	_, err := Open(t.Context(), cfg)
	wantText(t, err, "this store has no conditional writes (If-None-Match), which berth needs; see the table of stores in the README", "Open")
	wantNoClaim(t, err, "Open")
	wantNothingLeft(t, s, cfg.Bucket, "Open")

	s.Set(s3double.Knobs{Faults: map[string]s3double.Fault{"PutObject": {Status: http.StatusNotImplemented, Code: "NotImplemented"}}})
	if _, err := Open(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "no conditional writes") {
		t.Errorf("Open of a store that refuses every PutObject = %v, want another reason", err)
	}
}

// TestProbeCost checks how many requests Open sends, and that the writers of a
// race have separate connections.
func TestProbeCost(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.Knobs{})
	cfg := newBucketOfDouble(s)
	openBucket(t, cfg)
	seen := s.Seen()
	if len(seen) > 70 {
		t.Errorf("Open sends %d requests, want at most 70", len(seen))
	}
	conns, writes := make(map[string]bool), make(map[string]int)
	for _, r := range seen {
		if strings.Contains(r.Key, "race-") && r.Operation == "PutObject" {
			conns[r.RemoteAddr] = true
			writes[r.Key+" "+r.Header.Get("If-None-Match")]++
		}
	}
	if len(conns) != raceWriters {
		t.Errorf("the writers of the races use %d connections, want %d", len(conns), raceWriters)
	}
	if len(writes) != 2*raceRounds {
		t.Errorf("the races are %v, want %d of creates and as many of replaces", writes, raceRounds)
	}
	for race, n := range writes {
		if n != raceWriters {
			t.Errorf("%s is written %d times, want %d", race, n, raceWriters)
		}
	}
	wantNothingLeft(t, s, cfg.Bucket, "Open")
}

// TestProbesAtOnce opens one bucket concurrently, as several processes do.
func TestProbesAtOnce(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.CloudflareR2())
	cfg := newBucketOfDouble(s)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			b, err := Open(t.Context(), cfg)
			if err != nil {
				t.Errorf("Open() = %v", err)
				return
			}
			b.Close()
		})
	}
	wg.Wait()
	wantNothingLeft(t, s, cfg.Bucket, "Open by several processes")
}

// openLogged opens the bucket and returns the log.
func openLogged(t *testing.T, cfg Config) (*bucket, string) {
	t.Helper()
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	return openBucket(t, cfg), log.String()
}

// TestIgnoredChecksums opens stores that compare checksums, and a store that
// ignores them, behind a gateway that flips a bit in unsigned payloads.
func TestIgnoredChecksums(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		knobs   s3double.Knobs
		ignores bool
	}{
		"Amazon":  {s3double.Knobs{}, false},
		"R2":      {s3double.CloudflareR2(), false},
		"KMS":     {s3double.Knobs{RandomETags: true}, false},
		"ignored": {s3double.Knobs{IgnoreChecksums: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s3double.New(t, test.knobs)
			cfg := newBucketOfDouble(s)
			b, log := openLogged(t, cfg)
			if got := strings.Contains(log, "wrong checksum"); got != test.ignores || strings.Count(log, "wrong checksum") > 1 {
				t.Errorf("the log mentions ignored checksums: %t, want %t, and at most once:\n%s", got, test.ignores, log)
			}
			wantNothingLeft(t, s, cfg.Bucket, "Open")
			s.Seen()
			create(t, b, "some text")
			wantObject(t, b, "k", "some text")
			u, part := startUpload(t, b, "data/u")
			if _, err := complete(t, b, u, part); err != nil {
				t.Errorf("Complete() = %v", err)
			}
			wantObject(t, b, "data/u", "part")
			for _, r := range s.Seen() {
				if r.Operation != "PutObject" && r.Operation != "UploadPart" {
					continue
				}
				if got := r.Header.Get("X-Amz-Content-Sha256") != unsignedPayload; got != test.ignores {
					t.Errorf("the payload of %s is hashed: %t, want %t", r.Operation, got, test.ignores)
				}
			}
		})
	}
}

// TestCompleteCondition opens stores that ignore If-None-Match on Complete, drop
// the upload when it fails, or keep to it.
func TestCompleteCondition(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		knobs    s3double.Knobs
		replaces bool
	}{
		"Amazon":                     {s3double.Knobs{}, false},
		"no whole checksum":          {s3double.Knobs{NoWholeChecksum: true}, false},
		"KMS":                        {s3double.Knobs{RandomETags: true}, false},
		"R2":                         {s3double.CloudflareR2(), false},
		"ignored":                    {s3double.Knobs{CompleteIgnores: true}, true},
		"ignored, without checksums": {s3double.Knobs{CompleteIgnores: true, IgnoreChecksums: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s3double.New(t, test.knobs)
			cfg := newBucketOfDouble(s)
			b, log := openLogged(t, cfg)
			if got := strings.Contains(log, "ignores If-None-Match on CompleteMultipartUpload"); got != test.replaces {
				t.Errorf("Open warns: %t, want %t; the log is:\n%s", got, test.replaces, log)
			}
			if b.completeReplaces != test.replaces {
				t.Errorf("completeReplaces = %t, want %t", b.completeReplaces, test.replaces)
			}
			wantNothingLeft(t, s, cfg.Bucket, "Open")
		})
	}
}
