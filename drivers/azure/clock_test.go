package azure

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

// TestSignByStoresClock has a store with a clock that is one hour ahead. After some
// answers URLs are signed by that clock, with an account key and with an identity.
func TestSignByStoresClock(t *testing.T) {
	const ahead = time.Hour
	store := wire(func(req *http.Request) (*http.Response, error) {
		now := time.Now().Add(ahead).UTC()
		header := http.Header{"Date": {now.Format(http.TimeFormat)}}
		if req.URL.Query().Get("comp") != "userdelegationkey" {
			return answer(req, http.StatusNotFound, "BlobNotFound", header), nil
		}
		info, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		header.Set("Content-Type", "application/xml")
		resp := answer(req, http.StatusOK, "", header)
		body := strings.NewReplacer("KeyInfo>", "UserDelegationKey>", "Start>", "SignedStart>", "Expiry>", "SignedExpiry>",
			"</KeyInfo>", "<SignedOid>o</SignedOid><SignedTid>t</SignedTid><SignedService>b</SignedService>"+
				"<SignedVersion>2026-12-06</SignedVersion><Value>AAAA</Value></UserDelegationKey>").Replace(string(info))
		resp.Body = io.NopCloser(strings.NewReader(body))
		return resp, nil
	})
	for name, cfg := range map[string]Config{
		"shared key": {Account: "account", Container: "c", SharedKey: "AAAA", Transport: store},
		"identity":   {Account: "account", Container: "c", identity: token{}, Transport: store},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := newBucket(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				if err := b.Delete(t.Context(), "k"); err != nil {
					t.Fatal(err)
				}
			}
			s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			start, err := time.Parse(time.RFC3339, u.Query().Get("st"))
			if err != nil {
				t.Fatal(err)
			}
			if off := time.Until(start) - (ahead - keySkew); off.Abs() > time.Minute {
				t.Errorf("the URL starts at %v, want %v from now", start, ahead-keySkew)
			}
			if left := time.Until(s.Expires); left <= 0 || left > time.Minute+time.Second {
				t.Errorf("the URL expires in %v, want a minute", left)
			}
		})
	}
}
