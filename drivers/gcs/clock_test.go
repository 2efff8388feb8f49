package gcs

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

// TestSignByStoresClock runs with a store that has a clock one hour ahead.
// After some answers URLs are signed by that clock. IAM's clock has no effect.
func TestSignByStoresClock(t *testing.T) {
	const ahead = time.Hour
	b := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, newKey(t)), Transport: transport(func(r *http.Request) (*http.Response, error) {
		resp, err := answer(r, http.StatusNotFound, "No such object")
		if err == nil {
			skew := ahead
			if strings.HasPrefix(r.URL.Host, "iamcredentials.") {
				skew = -ahead
			}
			resp.Header.Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
		}
		return resp, err
	})})
	signed := func() (date, expires time.Time) {
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
	if date, _ := signed(); time.Until(date).Abs() > time.Minute {
		t.Errorf("before the store has answered a URL is signed at %v, want now", date)
	}
	for range 5 {
		if err := b.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	date, expires := signed()
	if off := time.Until(date) - ahead; off.Abs() > time.Minute {
		t.Errorf("a URL is signed at %v, want %v from now", date, ahead)
	}
	if left := time.Until(expires); left <= 0 || left > 2*time.Minute {
		t.Errorf("a URL of one minute expires in %v", left)
	}
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
	if skew := b.clock.Skew(); skew != ahead {
		t.Errorf("after answers of IAM the skew is %v, want %v", skew, ahead)
	}
}
