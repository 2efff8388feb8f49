package redirect

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers"
)

// TestEdges verifies URLs of an Edge of each kind of CDN: signatures of any key
// are valid, and expired URLs were valid before they expired.
func TestEdges(t *testing.T) {
	for _, c := range append(signerCases(), signerCase{name: "plain", cdn: CDN{Kind: "plain", BaseURL: testBase}}) {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)))
				p := cdnPolicy(t, c.cdn)
				edges := p.Edges()
				if len(edges) != 1 || edges[0].Name != "edge" || edges[0].Kind != c.cdn.Kind {
					t.Fatalf("Edges() = %+v, want one of kind %s", edges, c.cdn.Kind)
				}
				for _, key := range []string{testKey, "meta/format"} {
					testEdge(t, c, edges[0], key)
				}
			})
		})
	}
}

// testEdge tests the URLs of one key.
func testEdge(t *testing.T, c signerCase, e Edge, key string) {
	t.Helper()
	if got, want := e.URL(key), testBase+"/"+key; got != want {
		t.Errorf("URL(%q) = %s, want %s", key, got, want)
	}
	signed, err := e.Sign(t.Context(), nil, key)
	if err != nil || !strings.HasPrefix(signed.URL, e.URL(key)) {
		t.Fatalf("Sign(%q) = %v, %v, want a URL of the key", key, signed, err)
	}
	expired, err := e.SignExpired(key)
	if !e.Signs() {
		if signed.URL != e.URL(key) || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Sign(%q) = %v, SignExpired = %v, want no signature and %v", key, signed, err, errors.ErrUnsupported)
		}
		return
	}
	known := c.known(t, c.cdn.Keys...)
	if err := c.verify(signed.URL, time.Now(), known); err != nil {
		t.Errorf("Sign(%q) returns a URL that is refused: %v", key, err)
	}
	if err != nil || c.verify(expired.URL, time.Now(), known) == nil {
		t.Errorf("SignExpired(%q) = %v, want a URL that is refused", key, err)
	}
	if err := c.verify(expired.URL, time.Now().Add(-2*e.policy.maxLife), known); err != nil {
		t.Errorf("SignExpired(%q) returns a URL that was refused before it expired: %v", key, err)
	}
}

// TestEdgeOfStore checks that the store signs only keys under data/, for any key
// that an Edge is asked to sign.
func TestEdgeOfStore(t *testing.T) {
	p := cdnPolicy(t, CDN{Kind: "frontdoor", BaseURL: testBase})
	bucket := bucketFunc(func(key string, _ drivers.SignOptions) (drivers.Signed, error) {
		return drivers.Signed{URL: "https://account.example/" + key + "?sig=" + key, Expires: time.Now().Add(time.Hour)}, nil
	})
	e := p.Edges()[0]
	for key, want := range map[string]string{testKey: testKey, "meta/format": "data/check", "data/../meta/format": "data/check"} {
		signed, err := e.Sign(t.Context(), bucket, key)
		if want = testBase + "/" + key + "?sig=" + want; err != nil || signed.URL != want {
			t.Errorf("Sign(%q) = %s, %v, want %s", key, signed.URL, err, want)
		}
	}
	if _, err := e.SignExpired(testKey); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SignExpired = %v, want %v", err, errors.ErrUnsupported)
	}
}
