package s3

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// wantNothingLeft fails the test if a probe has left anything except the mark.
func wantNothingLeft(t *testing.T, s *s3double.Store, bucket, what string) {
	t.Helper()
	objects, uploads := s.Left(bucket)
	objects = slices.DeleteFunc(objects, func(key string) bool { return key == emptyMark })
	if len(objects) > 0 || len(uploads) > 0 {
		t.Errorf("%s leaves %q and uploads of %q", what, objects, uploads)
	}
}

// TestProbeAtomic has stores that check a condition in one step and write in
// another. Sequential writes do not show it.
func TestProbeAtomic(t *testing.T) {
	t.Parallel()
	const gap = 200 * time.Millisecond
	for _, test := range []struct {
		name  string
		knobs s3double.Knobs
		want  string
	}{
		{"slow, with one lock", s3double.Knobs{Delay: 2 * time.Millisecond}, ""},
		{"no lock", s3double.Knobs{Locks: s3double.None, Delay: gap}, "does not keep to If-None-Match: *"},
		{"no lock for replaces", s3double.Knobs{Locks: s3double.NoneForReplaces, Delay: gap}, "does not keep to If-Match"},
	} {
		s := s3double.New(t, test.knobs)
		cfg := doubleOf(s)
		b, err := Open(t.Context(), cfg)
		switch {
		case test.want == "" && err == nil:
			b.Close()
		case test.want == "" || err == nil || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: Open() = %v, want an error with %q", test.name, err, test.want)
		default:
			wantNoClaim(t, err, test.name)
		}
		wantNothingLeft(t, s, cfg.Bucket, test.name)
	}
}

// TestProbeCost checks how many requests Open takes, and that its raceWriters have
// separate connections.
func TestProbeCost(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.Knobs{})
	cfg := doubleOf(s)
	openBucket(t, cfg)
	seen := s.Seen()
	if len(seen) > 70 {
		t.Errorf("Open takes %d requests, want at most 70", len(seen))
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

// TestProbeBusyRaces has a store that is busy for most writers, like Cloudflare
// R2, and one that loses answers.
func TestProbeBusyRaces(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	var mu sync.Mutex
	seen := make(map[string]int)
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "PutObject" || !strings.Contains(r.URL.Path, "race-") {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		seen[r.URL.Path]++
		return seen[r.URL.Path] <= raceWriters && fails(w, http.StatusTooManyRequests, "TooManyRequests")
	})
	openBucket(t, cfg)
	clear(seen)
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "PutObject" || !strings.HasSuffix(r.URL.Path, "race-0") {
			return false
		}
		d.loses(w, r)
		return true
	})
	openBucket(t, cfg)
}

// TestProbesAtOnce opens one bucket in several processes concurrently.
func TestProbesAtOnce(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.CloudflareR2())
	cfg := doubleOf(s)
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
	wantNothingLeft(t, s, cfg.Bucket, "Open of several processes")
}

// TestProbeFails has each operation fail in turn, some with refusals. The probe
// deletes what it wrote.
func TestProbeFails(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"PutObject", "HeadObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} {
		s := s3double.New(t, s3double.Knobs{})
		cfg := doubleOf(s)
		s.Set(s3double.Knobs{Faults: map[string]s3double.Fault{operation: {Status: http.StatusForbidden, Code: "AccessDenied"}}})
		if _, err := Open(t.Context(), cfg); !errors.Is(err, drivers.ErrRefused) {
			t.Errorf("Open without %s = %v, want %v", operation, err, drivers.ErrRefused)
		}
		wantNothingLeft(t, s, cfg.Bucket, "Open without "+operation)
	}
	s := s3double.New(t, s3double.Knobs{Conditions: s3double.Ignored})
	cfg := doubleOf(s)
	if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "ignores If-None-Match") {
		t.Errorf("Open of a store without conditions = %v", err)
	}
	wantNothingLeft(t, s, cfg.Bucket, "Open of a store that ignores conditions")
}

// TestProbeUnsupported has a store that does not support conditions.
func TestProbeUnsupported(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.Knobs{Conditions: s3double.Unsupported})
	cfg := doubleOf(s)
	_, err := Open(t.Context(), cfg)
	if want := "this store has no conditional writes (If-None-Match), which berth needs; see the table of stores in the README"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Open() = %v, want an error with %q", err, want)
	}
	wantNoClaim(t, err, "Open")
	wantNothingLeft(t, s, cfg.Bucket, "Open")

	s.Set(s3double.Knobs{Faults: map[string]s3double.Fault{"PutObject": {Status: http.StatusNotImplemented, Code: "NotImplemented"}}})
	if _, err := Open(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "no conditional writes") {
		t.Errorf("Open of a store that refuses every PutObject = %v, want another reason", err)
	}
}

// openLogged opens the bucket and returns the log.
func openLogged(t *testing.T, cfg Config) (drivers.Bucket, string) {
	t.Helper()
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	return openBucket(t, cfg), log.String()
}

// TestUnchecked has a store that ignores checksums, behind a gateway that flips
// a bit in unsigned payloads.
func TestUnchecked(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		knobs  s3double.Knobs
		hashed bool
	}{{s3double.Knobs{}, false}, {s3double.CloudflareR2(), false}, {s3double.Knobs{RandomETags: true}, false}, {s3double.Knobs{IgnoreChecksums: true}, true}} {
		s := s3double.New(t, test.knobs)
		cfg := doubleOf(s)
		b, log := openLogged(t, cfg)
		if got := strings.Count(log, "wrong checksum"); got != map[bool]int{true: 1}[test.hashed] {
			t.Errorf("%+v: the log mentions %d times that checksums are ignored:\n%s", test.knobs, got, log)
		}
		wantNothingLeft(t, s, cfg.Bucket, "Open")
		s.Seen()
		create(t, b, "some text")
		wantObject(t, b, "k", "some text")
		u, part := begin(t, b)
		if _, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C); err != nil {
			t.Errorf("%+v: Complete() = %v", test.knobs, err)
		}
		wantObject(t, b, "data/u", "part")
		for _, r := range s.Seen() {
			if r.Operation != "PutObject" && r.Operation != "UploadPart" {
				continue
			}
			if got := r.Header.Get("X-Amz-Content-Sha256") != unsignedPayload; got != test.hashed {
				t.Errorf("%+v: %s has a hashed payload: %t, want %t", test.knobs, r.Operation, got, test.hashed)
			}
		}
	}
}

// TestCompleteCondition has stores that ignore If-None-Match on Complete, drop
// the upload when it fails, or answer 409.
func TestCompleteCondition(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		knobs  s3double.Knobs
		warned bool
	}{
		{"Amazon", s3double.Knobs{}, false},
		{"no whole checksum", s3double.Knobs{NoWholeChecksum: true}, false},
		{"KMS", s3double.Knobs{RandomETags: true}, false},
		{"R2", s3double.CloudflareR2(), false},
		{"ignored", s3double.Knobs{CompleteIgnores: true}, true},
		{"ignored, without checksums", s3double.Knobs{CompleteIgnores: true, IgnoreChecksums: true}, true},
	} {
		s := s3double.New(t, test.knobs)
		cfg := doubleOf(s)
		b, log := openLogged(t, cfg)
		if got := strings.Contains(log, "ignores If-None-Match on CompleteMultipartUpload"); got != test.warned {
			t.Errorf("%s: warned is %t, want %t:\n%s", test.name, got, test.warned, log)
		}
		if got := b.(*bucket).completeReplaces; got != test.warned {
			t.Errorf("%s: completeReplaces = %t, want %t", test.name, got, test.warned)
		}
		wantNothingLeft(t, s, cfg.Bucket, test.name)
	}
}

// TestEqualParts completes uploads that have parts of different sizes in a
// store that requires equal sizes.
func TestEqualParts(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.CloudflareR2())
	complete := func(b drivers.Bucket, key string, replaced bool) error {
		t.Helper()
		u, err := b.StartUpload(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		var parts []drivers.Part
		var crc uint32
		for i, size := range []int{minPart, minPart + 1, 1} {
			p, err := b.PutPart(t.Context(), u, i+1, drivers.NewBody(bytes.Repeat([]byte{'a'}, size)))
			if err != nil {
				t.Fatal(err)
			}
			parts, crc = append(parts, p), drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
		}
		if replaced {
			if _, err := b.PutPart(t.Context(), u, 2, drivers.NewBody(bytes.Repeat([]byte{'b'}, minPart+1))); err != nil {
				t.Fatal(err)
			}
		}
		_, err = b.Complete(t.Context(), u, parts, crc)
		return err
	}
	wantSetting := func(err error, what string) {
		t.Helper()
		if !errors.Is(err, drivers.ErrRefused) || !strings.Contains(err.Error(), "s3.Config.EqualParts") {
			t.Errorf("%s = %v, want ErrRefused that names s3.Config.EqualParts", what, err)
		}
	}
	cfg := doubleOf(s)
	b := openBucket(t, cfg)
	if b.Limits().EqualParts {
		t.Error("EqualParts is on at an endpoint that is not R2's")
	}
	wantSetting(complete(b, "data/a", false), "Complete of parts of different sizes")
	if err := complete(b, "data/b", true); !errors.Is(err, drivers.ErrChanged) && !errors.Is(err, drivers.ErrRefused) {
		t.Errorf("Complete with a part that was replaced = %v", err)
	}
	cfg.EqualParts = new(true)
	if err := complete(openBucket(t, cfg), "data/c", false); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Complete of parts of different sizes, of an upload from before the setting = %v, want %v", err, drivers.ErrChanged)
	}
	// A store that returns another reason, or none, while the parts exist.
	knobs := s3double.CloudflareR2()
	knobs.Faults = map[string]s3double.Fault{"CompleteMultipartUpload": {Status: http.StatusBadRequest, Code: "InvalidPart", Message: "no"}}
	s.Set(knobs)
	wantSetting(complete(b, "data/d", false), "Complete of parts of different sizes, refused without a reason")
	if err := complete(b, "data/e", true); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Complete with a part that was replaced, refused without a reason = %v, want %v", err, drivers.ErrChanged)
	}
}

// TestEqualPartsDefault checks the default for each endpoint.
func TestEqualPartsDefault(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL_S3", "https://account.r2.cloudflarestorage.com")
	for _, test := range []struct {
		endpoint string
		set      *bool
		want     drivers.Limits
	}{
		{"https://account.r2.cloudflarestorage.com", nil, drivers.Limits{MaxPart: maxPartR2, EqualParts: true}},
		{"https://account.EU.r2.cloudflarestorage.com/", nil, drivers.Limits{MaxPart: maxPartR2, EqualParts: true}},
		{"https://account.fedramp.r2.cloudflarestorage.com:443", nil, drivers.Limits{MaxPart: maxPartR2, EqualParts: true}},
		{"https://account.r2.cloudflarestorage.com", new(false), drivers.Limits{MaxPart: maxPartR2}},
		{"https://r2.cloudflarestorage.com.example.com", nil, drivers.Limits{MaxPart: maxPart}},
		{"https://s3.example.com", new(true), drivers.Limits{MaxPart: maxPart, EqualParts: true}},
		{"", nil, drivers.Limits{MaxPart: maxPartR2, EqualParts: true}}, // from the environment
	} {
		cfg := Config{Bucket: "b", Region: "auto", Endpoint: test.endpoint, EqualParts: test.set, AccessKeyID: "id", SecretAccessKey: "secret"}
		b, _ := connectBucket(t, cfg)
		got := b.Limits()
		if got.MaxPart != test.want.MaxPart || got.EqualParts != test.want.EqualParts {
			t.Errorf("Limits at %q, %v = %+v, want %+v", test.endpoint, test.set, got, test.want)
		}
	}
}

// TestHome has names of buckets with and without one authoritative region.
func TestHome(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
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
		err := cfg.check()
		if ok != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), "s3.Config.Bucket: ") {
			t.Errorf("check of bucket %q = %v, want an error: %t", name, err, !ok)
		}
	}
}

// TestRegions has a store of two regions that evaluate conditions separately,
// unless a header names one of them.
func TestRegions(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.Knobs{Lag: time.Minute})
	open := func(cfg Config, region string, headers map[string]string) drivers.Bucket {
		cfg.Headers = map[string]string{s3double.RegionHeader: region}
		maps.Copy(cfg.Headers, headers)
		return openBucket(t, cfg)
	}
	winners := func(consistent bool) (n int) {
		cfg := doubleOf(s)
		headers := map[string]string{}
		if consistent {
			headers[strings.ToLower(consistentHeader)] = "true"
		}
		for _, region := range []string{"a", "b"} {
			if _, err := open(cfg, region, headers).Create(t.Context(), "k", drivers.NewBody([]byte(region))); err == nil {
				n++
			}
		}
		return n
	}
	if got := winners(false); got != 2 {
		t.Fatalf("%d of 2 regions let a key be created, want 2: the double does not do what it is for", got)
	}
	if got := winners(true); got != 1 {
		t.Errorf("with %s %d of 2 regions let a key be created, want 1", consistentHeader, got)
	}
}

// clientFunc is a function that is an HTTP client.
type clientFunc func(*http.Request) (*http.Response, error)

func (f clientFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// TestTigris checks the headers of requests to Tigris's hosts.
func TestTigris(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"https://t3.storage.dev": "true", "https://fly.storage.tigris.dev": "true", "https://blobs.t3.storage.dev": "true", "https://s3.example.com": "",
	} {
		b, _ := connectBucket(t, Config{Bucket: "b", Region: "auto", Endpoint: endpoint, PathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret"})
		var got http.Header
		client := s3.New(b.store.client.Options(), func(o *s3.Options) {
			o.Retryer = aws.NopRetryer{}
			o.HTTPClient = clientFunc(func(r *http.Request) (*http.Response, error) {
				got = r.Header
				return nil, errors.New("no network")
			})
		})
		_, _ = client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: b.store.bucket(), Key: b.store.name("k")})
		if got.Get(consistentHeader) != want {
			t.Errorf("a request to %s has %s: %q, want %q", endpoint, consistentHeader, got.Get(consistentHeader), want)
		}
		if signed := strings.Contains(got.Get("Authorization"), strings.ToLower(consistentHeader)); signed != (want != "") {
			t.Errorf("a request to %s is signed as %q", endpoint, got.Get("Authorization"))
		}
	}
}

// TestHeaders has headers that an operator may not set.
func TestHeaders(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"authorization": "x", "Host": "x", "x-amz-date": "x", "If-None-Match": "*", "if-match": "x", "X-Amz-Content-Sha256": "x",
		"x-amz-checksum-crc32c": "x", "Content-Length": "1", "Range": "bytes=0-1", "X-Amz-Security-Token": "x", "X-Amz-Server-Side-Encryption": "AES256",
		"X Bad": "x", "": "x", "X-Empty": "", "X-Lines": "a\r\nHost: b", "X-Umlaut": "ä",
		"x-tigris-consistent": "false",
	} {
		cfg := Config{Bucket: "b", Headers: map[string]string{name: value}}
		if err := cfg.check(); err == nil || !strings.HasPrefix(err.Error(), "s3.Config.Headers: ") {
			t.Errorf("check of header %q: %q = %v, want an error that names s3.Config.Headers", name, value, err)
		}
	}
	cfg := Config{Bucket: "b", Headers: map[string]string{"X-Tigris-Consistent": "true", "X-Gateway-Key": "some, value", "x-amz-tagging": "a=b"}}
	if err := cfg.check(); err != nil {
		t.Errorf("check of good headers = %v", err)
	}
	cfg.Headers["x-gateway-key"] = "other"
	if err := cfg.check(); err == nil {
		t.Error("check of a header that is given twice = nil")
	}
	s := s3double.New(t, s3double.Knobs{})
	good := doubleOf(s)
	good.Headers = map[string]string{"x-gateway-key": "some, value"}
	b := openBucket(t, good)
	create(t, b, "text")
	for _, r := range s.Seen() {
		if got := r.Header.Get("X-Gateway-Key"); got != "some, value" {
			t.Errorf("%s has X-Gateway-Key: %q", r.Operation, got)
		}
	}
	signed, err := b.SignGet(t.Context(), "k", drivers.SignOptions{Expires: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(signed.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET of a signed URL without the headers = %s", resp.Status)
	}
}
