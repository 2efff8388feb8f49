package check

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/redirect"
)

// signer is a bucket with signed URLs that point at a server of the test.
type signer struct {
	drivers.Bucket
	url string
}

func (b signer) SignGet(_ context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	expires := time.Now().Add(opts.Expires)
	headers := url.Values{"type": {opts.ContentType}, "disposition": {opts.ContentDisposition}}.Encode()
	return drivers.Signed{
		URL:     fmt.Sprintf("%s/%s?expires=%d&for=%s&%s", b.url, key, expires.UnixMilli(), key, headers),
		Expires: expires,
	}, nil
}

// flaws are the flaws of a server of signed URLs.
type flaws struct {
	bare    bool // serves URLs without a signature
	others  bool // accepts a signature for any key
	forever bool // ignores expiry
	whole   bool // ignores ranges
	stored  bool // ignores the headers that the URL requests
}

// serveSigned starts a server of signed URLs, and returns a bucket that signs them.
func serveSigned(t *testing.T, b drivers.Bucket, f flaws) drivers.Bucket {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.URL.Path, "/")
		expires, _ := strconv.ParseInt(r.FormValue("expires"), 10, 64)
		allowed := (f.others || r.FormValue("for") == key) && (f.forever || time.Now().UnixMilli() <= expires)
		if r.URL.RawQuery == "" {
			allowed = f.bare
		}
		if !allowed {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if f.whole {
			r.Header.Del("Range")
		}
		if !f.stored {
			w.Header().Set("Content-Type", r.FormValue("type"))
			w.Header().Set("Content-Disposition", r.FormValue("disposition"))
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(secret))
	}))
	t.Cleanup(server.Close)
	return signer{b, server.URL}
}

func TestPresigned(t *testing.T) {
	const get, refused = "presigned GET", "presigned GET, tampered or expired"
	for _, tc := range []struct {
		name  string
		flaws flaws
		want  map[string]Status // of steps that are not ok
		text  string            // in the details of these steps
	}{
		{"good", flaws{}, nil, ""},
		{"no ranges", flaws{whole: true}, map[string]Status{get: Warning}, "returned 200 for a Range"},
		{"its own headers", flaws{stored: true}, map[string]Status{get: Warning}, "the signed URL requests Content-"},
		{"a public bucket", flaws{bare: true}, map[string]Status{refused: Failed}, "without its signature returned 200"},
		{"one signature for all keys", flaws{others: true}, map[string]Status{refused: Failed}, "for another object returned 200"},
		{"never expires", flaws{forever: true}, map[string]Status{refused: Failed}, "after it expired returned 200"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			results := Run(t.Context(), serveSigned(t, openMemory(t, memory.S3()), tc.flaws), "s3")
			stepOf(t, results, get)
			stepOf(t, results, refused)
			for _, r := range results {
				want := cmp.Or(tc.want[r.Step], OK)
				if r.Status != want {
					t.Errorf("%s: %s (%s), want %s", r.Step, r.Status, r.Detail, want)
				}
				if want != OK && !strings.Contains(r.Detail, tc.text) {
					t.Errorf("%s: %s, want %q in it", r.Step, r.Detail, tc.text)
				}
				if strings.Contains(r.Detail, "expires=") {
					t.Errorf("the detail of %s contains a signed URL: %s", r.Step, r.Detail)
				}
			}
		})
	}
}

// sasBucket signs URLs with a start and an expiry, as the Azure driver does.
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

// serveSAS starts a server that accepts URLs of at most limit between their start
// and their expiry. It returns a bucket that signs them.
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

// TestPresignedLifetime checks that Presigned reports a policy of the account that
// refuses the URLs of clients, even if it accepts URLs of a minute.
func TestPresignedLifetime(t *testing.T) {
	policy, err := redirect.New(redirect.Config{Expiry: 20 * time.Minute, Window: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		limit  time.Duration
		extra  string
		status Status
		texts  []string // in the detail
		not    string   // not in the detail
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
		for _, want := range tc.texts {
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

// TestPresignedNot checks that Presigned returns no results if no reads are
// redirected to the store.
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
		t.Errorf("with a rule that serves everything directly: %+v, want no results", r)
	}
	if r := Presigned(t.Context(), openMemory(t, memory.Azure()), "azure", presign); len(r) != 0 {
		t.Errorf("for a store that cannot sign: %+v, want no results", r)
	}
}
