package gcs

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

// skewed is a store with a clock that is ahead of this machine's. IAM's clock is
// as far behind.
func skewed(ahead time.Duration) transport {
	return func(r *http.Request) (*http.Response, error) {
		resp, err := answer(r, http.StatusNotFound, "No such object")
		if err != nil {
			return nil, err
		}
		skew := ahead
		if strings.HasPrefix(r.URL.Host, "iamcredentials.") {
			skew = -ahead
		}
		resp.Header.Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
		return resp, nil
	}
}

// signedAt signs a URL that is valid for a minute, and returns the times of its
// signature and expiry.
func signedAt(t *testing.T, b *bucket) (date, expires time.Time) {
	t.Helper()
	s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if date, err = time.Parse(dateTime, parse(t, s.URL).Query().Get("X-Goog-Date")); err != nil {
		t.Fatal(err)
	}
	return date, s.Expires
}

// TestSignByStoresClock has a store with a clock that is one hour ahead. After some
// answers URLs are signed by that clock.
func TestSignByStoresClock(t *testing.T) {
	const ahead = time.Hour
	b := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, newKey(t)), Transport: skewed(ahead)})
	if date, _ := signedAt(t, b); time.Until(date).Abs() > time.Minute {
		t.Errorf("before the store answers, a URL is signed at %v, want now", date)
	}
	for range 5 {
		if err := b.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	date, expires := signedAt(t, b)
	if off := time.Until(date) - ahead; off.Abs() > time.Minute {
		t.Errorf("a URL is signed at %v, want %v from now", date, ahead)
	}
	if left := time.Until(expires); left <= 0 || left > 2*time.Minute {
		t.Errorf("the URL expires in %v, want a minute", left)
	}
}

// TestClockIgnoresIAM checks that IAM's clock does not affect the store's.
func TestClockIgnoresIAM(t *testing.T) {
	b := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, newKey(t)), Transport: skewed(time.Hour)})
	iam, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://iamcredentials.googleapis.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	hc, _, err := connect(t.Context(), &b.store.cfg, b.clock)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		resp, err := hc.Do(iam)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if skew := b.clock.Skew(); skew != 0 {
		t.Errorf("Skew() after answers of IAM = %v, want 0", skew)
	}
}
