package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

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
		cfg := configOf(test.server, test.server.Bucket(t))
		test.change(&cfg)
		b := openBucket(t, cfg).(*bucket)
		if b.capabilities != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, b.capabilities, test.want)
		}
		page, err := b.store.client.ListObjectsV2(t.Context(), listAll(b))
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, o := range page.Contents {
			left = append(left, *o.Key)
		}
		var want []string
		if test.want.emptyIsAbsent {
			want = []string{emptyMark}
		}
		if !slices.Equal(left, want) {
			t.Errorf("%s: the probe leaves %q, want %q", test.name, left, want)
		}
		for u, err := range b.Uploads(t.Context(), "") {
			t.Errorf("%s: the probe leaves an upload %+v, %v", test.name, u, err)
		}
	}
}

// TestProbeRefuses has stores that ignore conditions.
func TestProbeRefuses(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	for _, header := range []string{"If-None-Match", "If-Match"} {
		d.plays(func(w http.ResponseWriter, r *http.Request) bool {
			if operation(r) != "PutObject" || r.Header.Get(header) == "" {
				return false
			}
			w.Header().Set("ETag", `"0123"`)
			return true
		})
		_, err := Open(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), "ignores "+header) {
			t.Errorf("Open of a store that ignores %s = %v, want an error that names it", header, err)
		}
		wantNoClaim(t, err, "Open of a store that ignores "+header)
	}
}

// TestProbeUnknown has stores that refuse requests that they do not support.
func TestProbeUnknown(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		unknown := operation(r) == "CreateMultipartUpload" && r.Header.Get("x-amz-checksum-type") != "" ||
			operation(r) == "DeleteObject" && r.Header.Get("If-Match") != ""
		return unknown && fails(w, http.StatusNotImplemented, "NotImplemented")
	})
	b := openBucket(t, cfg)
	want := capabilities{emptyIsAbsent: true, checksums: checksumParts}
	if got := b.(*bucket).capabilities; got != want {
		t.Errorf("capabilities = %+v, want %+v", got, want)
	}
	u, part := begin(t, b)
	if _, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C); err != nil {
		t.Fatalf("Complete without a checksum of the whole = %v", err)
	}
	wantObject(t, b, "data/u", "part")

	d.plays(always("CreateMultipartUpload", http.StatusNotImplemented, "NotImplemented"))
	_, err := Open(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "s3.Config.Checksum") {
		t.Errorf("Open of a store that refuses CRC-32C = %v, want an error that names s3.Config.Checksum", err)
	}
}

// TestProbeDenied has a store that denies access to one request of a multipart
// upload, once or always.
func TestProbeDenied(t *testing.T) {
	t.Parallel()
	for _, denied := range []string{"CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} {
		d, cfg := newDouble(t)
		var asked atomic.Int32
		once := true
		d.plays(func(w http.ResponseWriter, r *http.Request) bool {
			return operation(r) == denied && (asked.Add(1) == 1 || !once) && fails(w, http.StatusForbidden, "AccessDenied")
		})
		b := openBucket(t, cfg)
		if got, want := b.(*bucket).capabilities, (capabilities{conditionalDelete: true, checksums: checksumWhole}); got != want {
			t.Errorf("capabilities of a store that denied a %s = %+v, want %+v", denied, got, want)
		}
		once = false
		if _, err := Open(t.Context(), cfg); !errors.Is(err, drivers.ErrRefused) || !strings.Contains(err.Error(), "s3:PutObject") {
			t.Errorf("Open of a store that denies %s = %v, want ErrRefused, with the permissions", denied, err)
		}
	}
}

// TestEmptyStays deletes in a store without delete by tag, which then gets it.
// The empty objects must stay absent.
func TestEmptyStays(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "DeleteObject" || r.Header.Get("If-Match") == "" {
			return false
		}
		w.WriteHeader(http.StatusNoContent)
		return true
	})
	before := openBucket(t, cfg)
	o := create(t, before, "text")
	if err := before.DeleteIf(t.Context(), "k", o.Tag); err != nil {
		t.Fatal(err)
	}
	d.plays(nil)
	after := openBucket(t, cfg)
	if got, want := after.(*bucket).capabilities, (capabilities{conditionalDelete: true, emptyIsAbsent: true, checksums: checksumWhole}); got != want {
		t.Errorf("capabilities = %+v, want %+v", got, want)
	}
	for _, err := range after.List(t.Context(), "", "") {
		t.Errorf("List returns a deleted object, %v", err)
	}
	o = create(t, after, "again")
	wantObject(t, after, "k", "again")
	if err := after.DeleteIf(t.Context(), "k", o.Tag); err != nil {
		t.Errorf("DeleteIf = %v", err)
	}
}

// TestVersityGW has answers that versitygw gives in races.
func TestVersityGW(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Server", "VERSITYGW") // in all answers
		return operation(r) == "DeleteObject" && r.Header.Get("If-Match") != "" && fails(w, http.StatusPreconditionFailed, "PreconditionFailed")
	})
	b := openBucket(t, cfg)
	if got, want := b.(*bucket).capabilities, (capabilities{emptyIsAbsent: true, versityGW: true, checksums: checksumWhole}); got != want {
		t.Errorf("capabilities = %+v, want %+v", got, want)
	}

	o := create(t, b, "text")
	d.plays(once("HeadObject", func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("ETag", `"`+o.Tag+`"`) // with the size of the empty object before it
		return true
	}))
	if _, err := b.Create(t.Context(), "k", drivers.NewBody([]byte("other"))); !errors.Is(err, drivers.ErrExists) {
		t.Errorf("Create after a HEAD with the size of an empty object and another object's tag = %v, want %v", err, drivers.ErrExists)
	}
	wantObject(t, b, "k", "text")

	d.plays(nil)
	u, part := begin(t, b)
	complete := func() (drivers.Object, error) {
		return b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C)
	}
	o, err := complete()
	if err == nil {
		err = b.DeleteIf(t.Context(), u.Key, o.Tag)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "CompleteMultipartUpload" {
			return false
		}
		fmt.Fprint(w, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
		return true
	})
	if _, err := complete(); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Complete of what was deleted = %v, want %v", err, drivers.ErrNotFound)
	}
	u.Key = "data/never-made"
	if _, err := complete(); !errors.Is(err, drivers.ErrBusy) {
		t.Errorf("Complete with success, and no object = %v, want %v", err, drivers.ErrBusy)
	}
}

// TestOpenAdvice opens buckets that can't be opened: the error names the
// setting and wraps no sentinel about a key.
func TestOpenAdvice(t *testing.T) {
	s := emulator.VersityGW(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	d, doubled := newDouble(t)
	d.plays(nil)
	good := configOf(s, s.Bucket(t))
	for _, test := range []struct {
		name   string
		change func(*Config)
		play   func(http.ResponseWriter, *http.Request) bool
		want   string
	}{
		{"no bucket", func(c *Config) { c.Bucket = "" }, nil, "s3.Config.Bucket is empty"},
		{"wrong bucket", func(c *Config) { c.Bucket = "nowhere" }, nil, `s3.Config.Bucket: bucket "nowhere" does not exist`},
		{"no name of a bucket", func(c *Config) { c.Bucket = "b" }, nil, `s3.Config.Bucket: "b" is not the name of a bucket`},
		{"directory bucket", func(c *Config) { c.Bucket = "b--usw2-az1--x-s3" }, nil, "s3.Config.Bucket"},
		{"wrong key id", func(c *Config) { c.AccessKeyID = "nobody" }, nil, "s3.Config.AccessKeyID"},
		{"wrong secret", func(c *Config) { c.SecretAccessKey = "wrong" }, nil, "s3.Config.SecretAccessKey"},
		{"half a key", func(c *Config) { c.SecretAccessKey = "" }, nil, "s3.Config.SecretAccessKey"},
		{"no credentials", func(c *Config) { c.AccessKeyID, c.SecretAccessKey = "", "" }, nil, "no credentials"},
		{"no region", func(c *Config) { c.Region, c.Endpoint = "", "" }, nil, "s3.Config.Region"},
		{"bad endpoint", func(c *Config) { c.Endpoint = "s3.example.com" }, nil, "s3.Config.Endpoint"},
		{"no such host", func(c *Config) { c.Endpoint = "http://nowhere.invalid" }, nil, "s3.Config.Endpoint"},
		{"bad public endpoint", func(c *Config) { c.PublicEndpoint = "cdn" }, nil, "s3.Config.PublicEndpoint"},
		{"bad checksum", func(c *Config) { c.Checksum = "md5" }, nil, "s3.Config.Checksum"},
		{"denied", nil, always("", http.StatusForbidden, "AccessDenied"), "s3:PutObject"},
		{"missing keys are denied", nil, always("HeadObject", http.StatusForbidden, "AccessDenied"), "s3:ListBucket"},
		{"expired", nil, always("", http.StatusBadRequest, "ExpiredToken"), "s3.Config.SessionToken"},
		{"clock", nil, always("", http.StatusForbidden, "RequestTimeTooSkewed"), "clock"},
		{"other region", nil, func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("x-amz-bucket-region", "eu-west-1")
			return fails(w, http.StatusMovedPermanently, "PermanentRedirect")
		}, "s3.Config.Region: bucket \"" + doubled.Bucket + "\" is in eu-west-1, not us-east-1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := good
			if test.play != nil {
				cfg = doubled
				d.plays(test.play)
			}
			if test.change != nil {
				test.change(&cfg)
			}
			_, err := Open(t.Context(), cfg)
			wantNoClaim(t, err, "Open")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Open() = %v, want an error that contains %s", err, test.want)
			}
		})
	}
}

// TestOpenDown opens a store that is down, which is a temporary error.
func TestOpenDown(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(nil)
	down.Close()
	_, err := Open(t.Context(), Config{
		Bucket: "b", Endpoint: down.URL, PathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret", Retries: -1,
	})
	wantBusy(t, err, "Open of a store that is down")
	if err != nil && !strings.Contains(err.Error(), "s3.Config.Endpoint") {
		t.Errorf("Open() = %v, want an error that names s3.Config.Endpoint", err)
	}
}

func listAll(b *bucket) *s3.ListObjectsV2Input {
	return &s3.ListObjectsV2Input{Bucket: b.store.bucket()}
}
