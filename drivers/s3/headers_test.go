package s3

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// TestHeaders sends configured headers, but never with signed URLs.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.Knobs{})
	cfg := newBucketOfDouble(s)
	cfg.Headers = map[string]string{"x-gateway-key": "some, value"}
	b := openBucket(t, cfg)
	create(t, b, "text")
	for _, r := range s.Seen() {
		if got, want := r.Header.Get("X-Gateway-Key"), "some, value"; got != want {
			t.Errorf("%s has X-Gateway-Key: %q, want %q", r.Operation, got, want)
		}
	}
	signed, err := b.SignGet(t.Context(), "k", drivers.SignOptions{Expires: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := fetch(t, signed.URL); status != http.StatusOK || body != "text" {
		t.Errorf("GET of a signed URL without the headers = %d %q, want the object", status, body)
	}
}

// TestCheckHeaders validates headers that an operator may and may not set.
func TestCheckHeaders(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"authorization": "x", "Host": "x", "x-amz-date": "x", "If-None-Match": "*", "if-match": "x", "X-Amz-Content-Sha256": "x",
		"x-amz-checksum-crc32c": "x", "Content-Length": "1", "Range": "bytes=0-1", "X-Amz-Security-Token": "x", "X-Amz-Server-Side-Encryption": "AES256",
		"X Bad": "x", "": "x", "X-Empty": "", "X-Lines": "a\r\nHost: b", "X-Umlaut": "ä",
		"x-tigris-consistent": "false",
	} {
		cfg := Config{Bucket: "b", Headers: map[string]string{name: value}}
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "s3.Config.Headers: ") {
			t.Errorf("check of header %q: %q = %v, want an error that names s3.Config.Headers", name, value, err)
		}
	}
	cfg := Config{Bucket: "b", Headers: map[string]string{"X-Tigris-Consistent": "true", "X-Gateway-Key": "some, value", "x-amz-tagging": "a=b"}}
	if err := cfg.Validate(); err != nil {
		t.Errorf("check of valid headers = %v", err)
	}
	cfg.Headers["x-gateway-key"] = "other"
	if err := cfg.Validate(); err == nil {
		t.Error("check of a header that is set twice = nil, want an error")
	}
}

// TestRegions opens a store of two regions that evaluate conditions separately,
// unless a header makes one of them evaluate all.
func TestRegions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		headers map[string]string
		created int // number of regions in which one key can be created
	}{
		{nil, 2}, // shows that the double has two regions
		{map[string]string{strings.ToLower(consistentHeader): "true"}, 1},
	} {
		s := s3double.New(t, s3double.Knobs{Lag: time.Minute})
		cfg := newBucketOfDouble(s)
		created := 0
		for _, region := range []string{"a", "b"} {
			cfg.Headers = map[string]string{s3double.RegionHeader: region}
			maps.Copy(cfg.Headers, test.headers)
			if _, err := openBucket(t, cfg).Create(t.Context(), "k", textBody(region)); err == nil {
				created++
			}
		}
		if created != test.created {
			t.Errorf("with the headers %v one key was created in %d regions, want %d", test.headers, created, test.created)
		}
	}
}

// roundTripper is a function that is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTigris checks that requests to Tigris's hosts carry the header, signed.
func TestTigris(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"https://t3.storage.dev": "true", "https://fly.storage.tigris.dev": "true", "https://blobs.t3.storage.dev": "true", "https://s3.example.com": "",
	} {
		var got http.Header
		b, _ := connectBucket(t, Config{
			Bucket: "b", Region: "auto", Endpoint: endpoint, PathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret", Retries: -1,
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				got = r.Header
				return nil, errors.New("no network")
			}),
		})
		_, _ = b.Stat(t.Context(), "k")
		if got.Get(consistentHeader) != want {
			t.Errorf("a request to %s has %s: %q, want %q", endpoint, consistentHeader, got.Get(consistentHeader), want)
		}
		if signed := strings.Contains(got.Get("Authorization"), strings.ToLower(consistentHeader)); signed != (want != "") {
			t.Errorf("a request to %s is signed as %q", endpoint, got.Get("Authorization"))
		}
	}
}

// TestHome checks that a bucket's name is valid only if the bucket has one
// authoritative region.
func TestHome(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]bool{
		"my-blobs": true, "my.blobs.example": true,
		"arn:aws:s3:eu-west-1:123456789012:accesspoint/blobs":              true,
		"arn:aws-cn:s3:cn-north-1:123456789012:accesspoint:blobs":          true,
		"blobs-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias":                 true,
		"arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap":          false,
		"arn:aws:s3:us-west-2:123456789012:accesspoint/mfzwi23gnjvgw.mrap": false,
		"mfzwi23gnjvgw.mrap":                         false,
		"arn:aws:s3::123456789012:accesspoint/blobs": false,
		"arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01/accesspoint/blobs": false,
		"arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/blobs":          false,
		"blobs--usw2-az1--x-s3":                                    false,
		"blobs--usw2-az1--xa-s3":                                   false,
		"blobs-o01ac5d28a6a232904e8xz5w8ijx1qzlbp3i3kuse10--op-s3": false,
		"blobs-1a4n8yjrb3kda96f67zwrwiiuse1a--ol-s3":               false,
	} {
		cfg := Config{Bucket: name}
		err := cfg.Validate()
		if valid != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), "s3.Config.Bucket: ") {
			t.Errorf("check of bucket %q = %v, want an error: %t", name, err, !valid)
		}
	}
}
