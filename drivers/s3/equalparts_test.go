package s3

import (
	"bytes"
	"errors"
	"net/http"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// TestEqualParts completes uploads that have parts of different sizes in a
// store that requires equal sizes.
func TestEqualParts(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.CloudflareR2())
	wantSetting := func(err error, call string) {
		t.Helper()
		wantRefused(t, err, call)
		wantText(t, err, "s3.Config.EqualParts", call)
	}
	cfg := newBucketOfDouble(s)
	b := openBucket(t, cfg)
	if b.Limits().EqualParts {
		t.Error("EqualParts = true at an endpoint that is not R2's")
	}
	wantSetting(completeUnequal(t, b, "data/a", false), "Complete of parts of different sizes")
	if err := completeUnequal(t, b, "data/b", true); !errors.Is(err, drivers.ErrChanged) && !errors.Is(err, drivers.ErrRefused) {
		t.Errorf("Complete with a part that was replaced = %v, want %v or %v", err, drivers.ErrChanged, drivers.ErrRefused)
	}
	cfg.EqualParts = new(true)
	if err := completeUnequal(t, openBucket(t, cfg), "data/c", false); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Complete of parts of different sizes, of an upload that is older than the setting = %v, want %v", err, drivers.ErrChanged)
	}
	// A store that returns another reason while the parts exist.
	knobs := s3double.CloudflareR2()
	knobs.Faults = map[string]s3double.Fault{"CompleteMultipartUpload": {Status: http.StatusBadRequest, Code: "InvalidPart", Message: "no"}}
	s.Set(knobs)
	wantSetting(completeUnequal(t, b, "data/d", false), "Complete of parts of different sizes, refused for another reason")
	if err := completeUnequal(t, b, "data/e", true); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Complete with a part that was replaced, refused for another reason = %v, want %v", err, drivers.ErrChanged)
	}
}

// completeUnequal completes an upload that has parts of three sizes. If replaced
// is true, the second part is first replaced by other bytes.
func completeUnequal(t *testing.T, b *bucket, key string, replaced bool) error {
	t.Helper()
	u, err := b.StartUpload(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	put := func(number int, char byte, size int) drivers.Part {
		t.Helper()
		p, err := b.PutPart(t.Context(), u, number, drivers.NewBody(bytes.Repeat([]byte{char}, size)))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var parts []drivers.Part
	var crc uint32
	for i, size := range []int{minPart, minPart + 1, 1} {
		p := put(i+1, 'a', size)
		parts, crc = append(parts, p), drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	if replaced {
		put(2, 'b', minPart+1)
	}
	_, err = b.Complete(t.Context(), u, parts, crc)
	return err
}

// TestEqualPartsDefault checks the limits for each kind of endpoint.
func TestEqualPartsDefault(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL_S3", "https://account.r2.cloudflarestorage.com")
	for _, test := range []struct {
		endpoint   string
		set        *bool
		maxPart    int64
		equalParts bool
	}{
		{"https://account.r2.cloudflarestorage.com", nil, maxPartR2, true},
		{"https://account.EU.r2.cloudflarestorage.com/", nil, maxPartR2, true},
		{"https://account.fedramp.r2.cloudflarestorage.com:443", nil, maxPartR2, true},
		{"https://account.r2.cloudflarestorage.com", new(false), maxPartR2, false},
		{"https://r2.cloudflarestorage.com.example.com", nil, maxPart, false},
		{"https://s3.example.com", new(true), maxPart, true},
		{"", nil, maxPartR2, true}, // from the environment
	} {
		b, _ := connectBucket(t, Config{
			Bucket: "b", Region: "auto", Endpoint: test.endpoint, EqualParts: test.set, AccessKeyID: "id", SecretAccessKey: "secret",
		})
		if got := b.Limits(); got.MaxPart != test.maxPart || got.EqualParts != test.equalParts {
			t.Errorf("Limits at %q = %+v, want MaxPart %d and EqualParts %t", test.endpoint, got, test.maxPart, test.equalParts)
		}
	}
}
