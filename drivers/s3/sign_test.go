package s3

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/berthhq/berth/drivers"
)

// testSigner returns a signer for these credentials, without a store.
func testSigner(t testing.TB, cfg Config, creds aws.Credentials) *signer {
	t.Helper()
	cfg.AccessKeyID, cfg.SecretAccessKey, cfg.SessionToken = creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken
	cfg.Bucket, cfg.Region = "blobs", "eu-central-1"
	sdk, err := cfg.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if creds.CanExpire {
		sdk.Credentials = credentials.StaticCredentialsProvider{Value: creds}
	}
	s, err := newSigner(t.Context(), &cfg, sdk)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var testCredentials = aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}

// TestSignBase checks the host and path of URLs for every way to reach a
// bucket.
func TestSignBase(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "https://blobs.s3.eu-central-1.amazonaws.com/data/k?"},
		{Config{PathStyle: true}, "https://s3.eu-central-1.amazonaws.com/blobs/data/k?"},
		{Config{DualStack: true}, "https://blobs.s3.dualstack.eu-central-1.amazonaws.com/data/k?"},
		{Config{Accelerate: true}, "https://blobs.s3-accelerate.amazonaws.com/data/k?"},
		{Config{FIPS: true}, "https://blobs.s3-fips.eu-central-1.amazonaws.com/data/k?"},
		{Config{FIPS: true, DualStack: true, PublicEndpoint: "https://s3.example.com"}, "https://blobs.s3.example.com/data/k?"},
		{Config{Accelerate: true, PublicEndpoint: "https://s3.example.com"}, "https://blobs.s3.example.com/data/k?"},
		{Config{Endpoint: "http://127.0.0.1:9000", PathStyle: true}, "http://127.0.0.1:9000/blobs/data/k?"},
		{Config{Endpoint: "https://s3.example.com"}, "https://blobs.s3.example.com/data/k?"},
		{Config{Endpoint: "http://10.0.0.1:9000", PathStyle: true, PublicEndpoint: "https://s3.example.com"}, "https://s3.example.com/blobs/data/k?"},
		// The signed host has the form in which clients send it.
		{Config{PublicEndpoint: "https://S3.Example.com:443"}, "https://blobs.s3.example.com/data/k?"},
		{Config{PublicEndpoint: "http://s3.example.com:80", PathStyle: true}, "http://s3.example.com/blobs/data/k?"},
		{Config{PublicEndpoint: "https://s3.example.com:", PathStyle: true}, "https://s3.example.com/blobs/data/k?"},
		{Config{PublicEndpoint: "https://s3.example.com:80", PathStyle: true}, "https://s3.example.com:80/blobs/data/k?"},
		{Config{PublicEndpoint: "https://[2001:DB8::1]:443", PathStyle: true}, "https://[2001:db8::1]/blobs/data/k?"},
	} {
		s := testSigner(t, test.cfg, testCredentials)
		signed, err := s.sign(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute}, time.Now())
		if err != nil || !strings.HasPrefix(signed.URL, test.want) {
			t.Errorf("sign with %+v = %s, %v, want a URL that starts with %s", test.cfg, signed.URL, err, test.want)
		}
	}
}

// TestSignTimes checks when URLs are signed and when they expire.
func TestSignTimes(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 34, 56, 789e6, time.UTC)
	at := func(clock string) time.Time {
		d, err := time.Parse(time.TimeOnly, clock)
		if err != nil {
			t.Fatal(err)
		}
		return time.Date(2026, 5, 4, d.Hour(), d.Minute(), d.Second(), 0, time.UTC)
	}
	for _, test := range []struct {
		name        string
		opts        drivers.SignOptions
		credentials time.Time // their expiry; never if zero
		date        string
		seconds     string
		until       time.Time
	}{
		{"no window", drivers.SignOptions{Expires: 20 * time.Minute}, time.Time{}, "20260504T123456Z", "1200", at("12:54:56")},
		{"window", drivers.SignOptions{Expires: 20 * time.Minute, Window: time.Hour}, time.Time{}, "20260504T120000Z", "4800", at("13:20:00")},
		{"fractions", drivers.SignOptions{Expires: 1500 * time.Millisecond}, time.Time{}, "20260504T123456Z", "1", at("12:34:57")},
		{"a year", drivers.SignOptions{Expires: 365 * 24 * time.Hour}, time.Time{}, "20260504T123456Z", "604800", at("12:34:56").AddDate(0, 0, 7)},
		{"credentials that expire later", drivers.SignOptions{Expires: time.Minute}, at("12:40:00"), "20260504T123456Z", "60", at("12:35:56")},
		{"credentials that expire sooner", drivers.SignOptions{Expires: time.Hour}, at("12:40:00"), "20260504T123456Z", "244", at("12:39:00")},
		{"credentials that expire sooner, with a window", drivers.SignOptions{Expires: time.Hour, Window: time.Hour}, at("12:40:00"), "20260504T120000Z", "2340", at("12:39:00")},
	} {
		creds := testCredentials
		if !test.credentials.IsZero() {
			creds.SessionToken, creds.CanExpire, creds.Expires = "token", true, test.credentials
		}
		s := testSigner(t, Config{}, creds)
		signed, err := s.sign(t.Context(), "data/k", test.opts, now)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		u, err := url.Parse(signed.URL)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if q.Get("X-Amz-Date") != test.date || q.Get("X-Amz-Expires") != test.seconds || !signed.Expires.Equal(test.until) {
			t.Errorf("%s: signed at %s for %s s, until %v, want %s, %s, %v", test.name,
				q.Get("X-Amz-Date"), q.Get("X-Amz-Expires"), signed.Expires, test.date, test.seconds, test.until)
		}
		if got := q.Get("X-Amz-Security-Token"); got != creds.SessionToken {
			t.Errorf("%s: the URL has the session token %q, want %q", test.name, got, creds.SessionToken)
		}
	}

	expiring := testCredentials
	expiring.SessionToken, expiring.CanExpire, expiring.Expires = "token", true, now.Add(30*time.Second)
	for _, window := range []time.Duration{0, time.Hour} {
		opts := drivers.SignOptions{Expires: time.Minute, Window: window}
		if signed, err := testSigner(t, Config{}, expiring).sign(t.Context(), "data/k", opts, now); err == nil {
			t.Errorf("sign with credentials that expire within the margin, in a window of %v = %s, want an error", window, signed.URL)
		}
	}
}

// TestSignReplicas checks that all processes with the same credentials return
// the same URL throughout the window.
func TestSignReplicas(t *testing.T) {
	opts := drivers.SignOptions{Expires: 20 * time.Minute, Window: 10 * time.Minute, ContentType: "a/b+c", ContentDisposition: `attachment; filename="x y"`}
	start := time.Date(2026, 5, 4, 12, 30, 0, 0, time.UTC)
	var first string
	for _, into := range []time.Duration{0, time.Minute, 10*time.Minute - 1} {
		s := testSigner(t, Config{}, testCredentials)
		signed, err := s.sign(t.Context(), "data/a!b+c:d", opts, start.Add(into))
		switch {
		case err != nil:
			t.Fatal(err)
		case first == "":
			first = signed.URL
		case signed.URL != first:
			t.Errorf("%v after the start of the window the URL is %s, want %s", into, signed.URL, first)
		}
	}
}

func BenchmarkSignGet(b *testing.B) {
	bucket := &bucket{store: new(store), signer: testSigner(b, Config{}, testCredentials)}
	opts := drivers.SignOptions{Expires: 20 * time.Minute, Window: 5 * time.Minute, ContentType: "application/octet-stream"}
	key := "data/sha256/ab/" + strings.Repeat("ab", 32) + "/" + strings.Repeat("0", 32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bucket.SignGet(b.Context(), key, opts); err != nil {
			b.Fatal(err)
		}
	}
}
