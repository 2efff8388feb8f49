package s3

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// TestSignByStoresClock uses a store with a clock that is one hour ahead. After
// some responses URLs are signed by that clock, and a warning is logged.
func TestSignByStoresClock(t *testing.T) {
	t.Parallel()
	const ahead = time.Hour
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
	}))
	t.Cleanup(store.Close)
	var log bytes.Buffer
	cfg := Config{
		Bucket: "b", Endpoint: store.URL, PathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret",
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	b, _ := connectBucket(t, cfg)
	sign := func() (signed, expires time.Time) {
		t.Helper()
		s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		date, err := time.Parse("20060102T150405Z", u.Query().Get("X-Amz-Date"))
		if err != nil {
			t.Fatal(err)
		}
		return date, s.Expires
	}
	if date, _ := sign(); time.Until(date).Abs() > time.Minute {
		t.Errorf("before the first response a URL is signed at %v, want now", date)
	}
	for range 5 {
		if err := b.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	date, expires := sign()
	if off := time.Until(date) - ahead; off.Abs() > time.Minute {
		t.Errorf("a URL is signed at %v, want %v from now", date, ahead)
	}
	if left := time.Until(expires); left <= 0 || left > time.Minute {
		t.Errorf("a URL of one minute expires in %v, want at most a minute", left)
	}
	if n := strings.Count(log.String(), "signed by the store's"); n != 1 {
		t.Errorf("the log has %d lines about the clock, want 1:\n%s", n, log.String())
	}
}

// TestClockSlow uses stores with clocks that are an hour ahead and an hour
// behind. Such a store accepts requests within 15 minutes of its clock, and URLs until
// they have expired by it.
func TestClockSlow(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		store := s3double.New(t, s3double.Knobs{Skew: ahead})
		b := openBucket(t, newBucketOfDouble(store))
		create(t, b, "text")
		wantObject(t, b, "k", "text")
		signed, err := b.SignGet(t.Context(), "k", drivers.SignOptions{Expires: 5 * time.Minute, Window: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if status, body := fetch(t, signed.URL); status != http.StatusOK || body != "text" {
			t.Errorf("with a store clock that is %v ahead GET of the URL = %d %q, want the object", ahead, status, body)
		}
	}
}
