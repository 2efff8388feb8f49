package check

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/redirect"
)

// sasBucket signs URLs with a start and an expiry, like the Azure driver.
type sasBucket struct {
	drivers.Bucket
	url   string
	extra string // of the query
}

func (b sasBucket) SignGet(_ context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	now := time.Now().UTC().Truncate(time.Second)
	expires := now.Add(opts.Expires + opts.Window)
	q := url.Values{"st": {now.Add(-15 * time.Minute).Format(time.RFC3339)}, "se": {expires.Format(time.RFC3339)}, "sig": {"secret"}}
	return drivers.Signed{URL: b.url + "/" + key + "?" + q.Encode() + b.extra, Expires: expires}, nil
}

// serveSAS serves the objects of a bucket by URLs that live for at most limit
// from their start to their expiry.
func serveSAS(t *testing.T, limit time.Duration, extra string) drivers.Bucket {
	t.Helper()
	b := openMemory(t, memory.Azure())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, _ := time.Parse(time.RFC3339, r.FormValue("st"))
		expiry, _ := time.Parse(time.RFC3339, r.FormValue("se"))
		body, _, err := b.Open(r.Context(), strings.TrimPrefix(r.URL.Path, "/"), 0, -1)
		if err != nil || expiry.Sub(start) > limit {
			w.Header().Set("x-ms-error-code", "AuthorizationFailure")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		defer body.Close()
		_, _ = io.Copy(w, body) // the client may be gone
	}))
	t.Cleanup(server.Close)
	return sasBucket{b, server.URL, extra}
}

// TestPresignedLifetime checks that an account's policy is found if it refuses
// URLs with the lifetime of clients' URLs, but accepts URLs of a minute.
func TestPresignedLifetime(t *testing.T) {
	policy, err := redirect.New(redirect.Config{Expiry: 20 * time.Minute, Window: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		limit  time.Duration
		extra  string
		status Status
		says   []string
		not    string
	}{
		{40 * time.Minute, "", OK, []string{"until"}, ""},
		{39 * time.Minute, "", Warning, []string{"403 AuthorizationFailure", "SAS expiration policy", "allow 40m0s"}, "requireUserBound"},
		{39 * time.Minute, "&skoid=o", Warning, []string{"allow 40m0s", "requireUserBoundUserDelegationSas"}, ""},
	} {
		b := serveSAS(t, tc.limit, tc.extra)
		results := Presigned(t.Context(), b, "azure", policy)
		if len(results) != 1 || results[0].Status != tc.status {
			t.Fatalf("a limit of %v: %+v, want one step that is %s", tc.limit, results, tc.status)
		}
		detail := results[0].Detail
		for _, want := range tc.says {
			if !strings.Contains(detail, want) && tc.status != OK {
				t.Errorf("a limit of %v: %q, want %q in it", tc.limit, detail, want)
			}
		}
		if tc.not != "" && strings.Contains(detail, tc.not) || strings.Contains(fmt.Sprint(results), "secret") {
			t.Errorf("a limit of %v: %q, want neither %q nor the signature in it", tc.limit, detail, tc.not)
		}
		nothingLeft(t, b)
	}
}

// TestPresignedNot checks that there are no results if reads are not redirected
// to the store.
func TestPresignedNot(t *testing.T) {
	direct, err := redirect.New(redirect.Config{Rules: []redirect.Rule{{Target: "direct"}}})
	if err != nil {
		t.Fatal(err)
	}
	presign, err := redirect.New(redirect.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if r := Presigned(t.Context(), serveSAS(t, 0, ""), "azure", direct); len(r) != 0 {
		t.Errorf("with a rule that serves all directly: %+v, want nothing", r)
	}
	if r := Presigned(t.Context(), openMemory(t, memory.Azure()), "azure", presign); len(r) != 0 {
		t.Errorf("of a store that can't sign: %+v, want nothing", r)
	}
}
