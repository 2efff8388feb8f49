package azure

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/berthhq/berth/drivers"
)

// keyService is a double of a service that issues user delegation keys.
type keyService struct {
	*testing.T
	issued, refused atomic.Int32
	down            atomic.Bool
}

func (s *keyService) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.down.Load() {
		s.refused.Add(1)
		return answer(req, http.StatusForbidden, "AuthorizationPermissionMismatch", nil), nil
	}
	if req.URL.Query().Get("comp") != "userdelegationkey" {
		s.Errorf("%s %s, want only requests for keys", req.Method, req.URL)
	}
	n := s.issued.Add(1)
	info, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	field := func(name string) string {
		_, text, _ := strings.Cut(string(info), "<"+name+">")
		text, _, _ = strings.Cut(text, "<")
		return text
	}
	resp := answer(req, http.StatusOK, "", http.Header{"Content-Type": {"application/xml"}})
	resp.Body = io.NopCloser(strings.NewReader("<UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid><SignedStart>" + field("Start") +
		"</SignedStart><SignedExpiry>" + field("Expiry") + "</SignedExpiry><SignedService>b</SignedService><SignedVersion>2026-12-06</SignedVersion><Value>" +
		strings.Repeat("A", int(4*n)) + "</Value></UserDelegationKey>"))
	return resp, nil
}

// replica returns a bucket that has no key yet.
func (s *keyService) replica() *bucket {
	s.Helper()
	b, err := newBucket(Config{Account: "account", Container: "container", identity: token{}, Transport: s})
	if err != nil {
		s.Fatal(err)
	}
	return b
}

// sign returns a URL signed at a time, in windows of an hour, and its query.
func (s *keyService) sign(b *bucket, at time.Time, expires time.Duration) (drivers.Signed, url.Values) {
	s.Helper()
	signed, err := b.sign.get(s.Context(), "k", at, drivers.SignOptions{Expires: expires, Window: time.Hour})
	if err != nil {
		s.Fatal(err)
	}
	u, err := url.Parse(signed.URL)
	if err != nil {
		s.Fatal(err)
	}
	return signed, u.Query()
}

// signingTime is when the tests sign their first URL.
func signingTime() time.Time { return time.Date(2030, 5, 1, 13, 14, 15, 0, time.UTC) }

// TestDelegatedURL checks the times in a URL that is signed with a user
// delegation key, and that the URLs of one window are equal.
func TestDelegatedURL(t *testing.T) {
	s, at := &keyService{T: t}, signingTime()
	b := s.replica()
	first, q := s.sign(b, at, time.Hour)
	second, _ := s.sign(b, at.Add(30*time.Minute), time.Hour)
	if first != second || s.issued.Load() != 1 {
		t.Errorf("two URLs of a window = %s and %s, with %d keys, want them equal, with 1 key", first.URL, second.URL, s.issued.Load())
	}
	for name, want := range map[string]string{
		"st":  "2030-05-01T12:45:00Z", // 15 minutes before the window
		"se":  "2030-05-01T15:00:00Z",
		"skt": "2030-04-30T23:45:00Z", // the key's times
		"ske": "2030-05-07T23:45:00Z",
		"sp":  "r",
		"spr": "https",
	} {
		if got := q.Get(name); got != want {
			t.Errorf("%s of the URL = %q, want %q", name, got, want)
		}
	}
	// The times in the URL and in Signed are whole seconds.
	signed, err := b.sign.get(t.Context(), "k", at.Add(999*time.Millisecond), drivers.SignOptions{Expires: time.Hour})
	if want := at.Add(time.Hour); err != nil || !signed.Expires.Equal(want) || !strings.Contains(signed.URL, "se="+url.QueryEscape(want.Format(sas.TimeFormat))) {
		t.Errorf("SignGet without a window = %+v, %v, want it to expire at %v", signed, err, want)
	}
	if signed, _ := s.sign(b, at, 7*24*time.Hour); !signed.Expires.Equal(time.Date(2030, 5, 7, 23, 45, 0, 0, time.UTC)) {
		t.Errorf("a URL for a week expires %v, want the end of the key", signed.Expires)
	}
}

// TestDelegationByDay checks that all replicas request the same key for one day.
func TestDelegationByDay(t *testing.T) {
	s, at := &keyService{T: t}, signingTime()
	b := s.replica()
	_, q := s.sign(b, at, time.Hour)
	if _, p := s.sign(s.replica(), at.Add(5*time.Hour), time.Hour); p.Get("skt") != q.Get("skt") || p.Get("ske") != q.Get("ske") {
		t.Errorf("another replica requests the key of %s to %s, want %s to %s", p.Get("skt"), p.Get("ske"), q.Get("skt"), q.Get("ske"))
	}
	before := s.issued.Load()
	if _, p := s.sign(b, at.Add(24*time.Hour), time.Hour); p.Get("skt") != "2030-05-01T23:45:00Z" || s.issued.Load() != before+1 {
		t.Errorf("on the next day the key starts %s, after %d requests, want a new key after 1", p.Get("skt"), s.issued.Load()-before)
	}
	// A replica has the key of the next day, and then signs for this day.
	ahead := s.replica()
	s.sign(ahead, time.Date(2030, 5, 2, 0, 0, 0, 0, time.UTC), time.Hour)
	if _, p := s.sign(ahead, at, time.Hour); p.Get("st") != p.Get("skt") {
		t.Errorf("the URL starts at %s, want %s, when its key does", p.Get("st"), p.Get("skt"))
	}
}

// TestDelegationRefused has a service that refuses to issue another key. The last
// key signs URLs until it is about to expire.
func TestDelegationRefused(t *testing.T) {
	s, at := &keyService{T: t}, signingTime()
	b := s.replica()
	s.sign(b, at, time.Hour)
	s.down.Store(true)
	if _, p := s.sign(b, at.Add(72*time.Hour), time.Hour); p.Get("skt") != "2030-04-30T23:45:00Z" {
		t.Errorf("the key starts %s, want the last key that was issued", p.Get("skt"))
	}
	if signed, err := b.sign.get(t.Context(), "k", at.Add(6*24*time.Hour), drivers.SignOptions{Expires: time.Hour}); err == nil {
		t.Errorf("SignGet when the last key is about to expire = %+v, want an error", signed)
	}
	if n := s.refused.Load(); n != 1 {
		t.Errorf("%d requests within the pause, want 1", n)
	}
}

// TestDelegationDenied has an identity with all rights to blobs, but without the
// right to get a key.
func TestDelegationDenied(t *testing.T) {
	denied := func(code string) *bucket {
		cfg := fakeConfig(func(req *http.Request) (*http.Response, error) {
			return answer(req, http.StatusForbidden, code, nil), nil
		})
		cfg.SAS, cfg.identity = "", token{}
		b, err := newBucket(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const action = "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action"
	for code, want := range map[string][]string{
		"AuthorizationPermissionMismatch": {"azure.Config.Account: ", action + ` on the account "account"`},
		"InsufficientAccountPermissions":  {"azure.Config.Account: ", action + ` on the account "account"`},
		"AuthorizationFailure":            {"network rules", action + ` on the account "account"`},
		"AuthenticationFailed":            {"azure.Config.Account: ", "token"},
	} {
		b := denied(code)
		for range 2 { // the second time during the pause
			_, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Hour})
			for _, text := range want {
				wantError(t, "SignGet, "+code, err, drivers.ErrRefused, text)
			}
			if err != nil && strings.Contains(err.Error(), "Data Contributor") {
				t.Errorf("SignGet, %s = %v, which names a role that does not help", code, err)
			}
		}
	}
	_, err := denied("AuthorizationPermissionMismatch").Stat(t.Context(), "k")
	wantError(t, "Stat", err, drivers.ErrRefused, "Storage Blob Data Contributor on the container")
}

// TestDelegationDown has a service that does not respond. Reads continue with the
// last key. Without a key they fail immediately, except for one in each pause, which
// makes a request.
func TestDelegationDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		b, err := newBucket(Config{Account: "account", Container: "container", identity: token{}, Transport: wire(func(req *http.Request) (*http.Response, error) {
			requests.Add(1)
			<-req.Context().Done() // no answer
			return nil, req.Context().Err()
		})})
		if err != nil {
			t.Fatal(err)
		}
		sign := func(at time.Time) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err := b.sign.delegated.key(ctx, at)
			return err
		}

		day := time.Now().UTC().Truncate(keyPeriod)
		kept := delegatedKey{day: day.Add(-keyPeriod), expires: day.Add(5 * keyPeriod)}
		b.sign.delegated.newest.Store(&kept)
		go func() { _ = sign(day) }() // waits
		synctest.Wait()
		start := time.Now()
		if err := sign(day); err != nil || requests.Load() != 1 || time.Since(start) > 0 {
			t.Errorf("key during a request for another = %v, after %d requests and %v, want the last key immediately", err, requests.Load(), time.Since(start))
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()

		refuse := errors.New("no route")
		b.sign.delegated.failed, b.sign.delegated.pause = refuse, time.Now().Add(keyPause)
		before := requests.Load()
		if err := sign(day); err != nil || requests.Load() != before {
			t.Errorf("key just after a failure = %v, with %d requests, want the last key, with none", err, requests.Load()-before)
		}
		if err := sign(day.Add(4 * keyPeriod)); !errors.Is(err, refuse) || requests.Load() != before {
			t.Errorf("key just after a failure, without a valid key = %v, with %d requests, want %v, with none", err, requests.Load()-before, refuse)
		}
		time.Sleep(keyPause)
		if err := sign(day.Add(4 * keyPeriod)); err == nil || requests.Load() == before {
			t.Errorf("key after the pause = %v, with %d requests, want an error with one", err, requests.Load()-before)
		}
	})
}

// TestDelegationSilent has a service that accepts requests for keys and never
// responds. Reads share one request and wait no longer than keyWait, even if the
// caller that made the request has left.
func TestDelegationSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		b, err := newBucket(Config{Account: "account", Container: "container", identity: token{}, Transport: wire(func(req *http.Request) (*http.Response, error) {
			requests.Add(1)
			<-req.Context().Done()
			return nil, req.Context().Err()
		})})
		if err != nil {
			t.Fatal(err)
		}
		leaving, leave := context.WithCancel(t.Context())
		go func() { _, _ = b.SignGet(leaving, "data/k", drivers.SignOptions{Expires: time.Minute}) }()
		synctest.Wait()
		leave()
		start := time.Now()
		for range 3 {
			if s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute}); !errors.Is(err, drivers.ErrBusy) {
				t.Errorf("SignGet = %+v, %v, want %v", s, err, drivers.ErrBusy)
			}
		}
		if d := time.Since(start); d > keyWait || requests.Load() != 1 {
			t.Errorf("three reads waited %v, with %d requests, want at most %v, with 1", d, requests.Load(), keyWait)
		}
	})
}
