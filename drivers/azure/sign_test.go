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

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestSignPublicEndpoint signs for the host that clients use for the store.
func TestSignPublicEndpoint(t *testing.T) {
	cfg := configOf(t, emulator.Azurite(t))
	cfg.PublicEndpoint = "https://cdn.example.net/blobs/"
	b := open(t, cfg)
	s, err := b.SignGet(t.Context(), "data/a+b", drivers.SignOptions{Expires: time.Hour})
	if want := "https://cdn.example.net/blobs/" + cfg.Container + "/data/a+b?"; err != nil || !strings.HasPrefix(s.URL, want) {
		t.Errorf("SignGet = %+v, %v, want %s…", s, err, want)
	}
}

// TestSignAnyHost fetches a URL by another name of the same server, like CDNs
// that pass a SAS on. It is valid there, but not for another container.
func TestSignAnyHost(t *testing.T) {
	cfg := configOf(t, emulator.Azurite(t))
	b := open(t, cfg)
	if _, err := b.Create(t.Context(), "data/k", drivers.NewBody([]byte("text"))); err != nil {
		t.Fatal(err)
	}
	s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		old, other string
		status     int
	}{
		{"127.0.0.1", "localhost", http.StatusOK},
		{cfg.Container, "other", http.StatusForbidden},
	} {
		url := strings.Replace(s.URL, test.old, test.other, 1)
		resp, err := (&http.Client{Transport: cfg.Transport}).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.status {
			t.Errorf("GET %s = %s, want %d", url, resp.Status, test.status)
		}
	}
}

// TestSignUnderPolicy reads by URLs of an account with a SAS expiration policy:
// they have a start, and the time from start to expiry is the one in the
// README.
func TestSignUnderPolicy(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"shared key": configOf(t, emulator.Azurite(t)),
		"identity":   byIdentity(configOf(t, emulator.AzuriteOAuth(t))),
	} {
		b := open(t, cfg)
		if _, err := b.Create(t.Context(), "data/k", drivers.NewBody([]byte("text"))); err != nil {
			t.Fatal(err)
		}
		opts := drivers.SignOptions{Expires: 10 * time.Minute, Window: 5 * time.Minute}
		signed, err := b.SignGet(t.Context(), "data/k", opts)
		if err != nil {
			t.Fatal(err)
		}
		interval := opts.Expires + opts.Window + 15*time.Minute
		for limit, want := range map[time.Duration]int{interval: http.StatusOK, interval - time.Second: http.StatusForbidden} {
			client := &http.Client{Transport: emulator.AzureRules{Base: cfg.Transport, SASInterval: limit}}
			resp, err := client.Get(signed.URL)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s: GET under a policy of %v = %s, want %d", name, limit, resp.Status, want)
			}
		}
	}
}

func byIdentity(cfg Config) Config {
	cfg.SharedKey, cfg.identity = "", token{}
	return cfg
}

// TestSignNothing has no credential that can sign.
func TestSignNothing(t *testing.T) {
	b := fake(t, nil)
	s, err := b.SignGet(t.Context(), "k", drivers.SignOptions{Expires: time.Hour})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "azure.Config.SAS") {
		t.Errorf("SignGet with a SAS = %+v, %v, want %v that names azure.Config.SAS", s, err, errors.ErrUnsupported)
	}
	cfg := fakeConfig(nil)
	cfg.SAS, cfg.identity, cfg.Endpoint = "", token{}, "https://blobs.example.com"
	if b, err = newBucket(cfg); err != nil {
		t.Fatal(err)
	}
	s, err = b.SignGet(t.Context(), "k", drivers.SignOptions{Expires: time.Hour})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "azure.Config.Endpoint") {
		t.Errorf("SignGet for another host = %+v, %v, want %v that names azure.Config.Endpoint", s, err, errors.ErrUnsupported)
	}
}

// TestDelegation counts the requests for keys over several days, and then has
// the service go down.
func TestDelegation(t *testing.T) {
	var asked atomic.Int32
	var refused atomic.Int32
	var down atomic.Bool
	cfg := Config{Account: "account", Container: "container", identity: token{}, Transport: wire(func(req *http.Request) (*http.Response, error) {
		if down.Load() {
			refused.Add(1)
			return answer(req, http.StatusForbidden, "AuthorizationPermissionMismatch", nil), nil
		}
		if req.URL.Query().Get("comp") != "userdelegationkey" {
			t.Errorf("%s %s, want only requests for keys", req.Method, req.URL)
		}
		n := asked.Add(1)
		info, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		between := func(name string) string {
			_, s, _ := strings.Cut(string(info), "<"+name+">")
			s, _, _ = strings.Cut(s, "<")
			return s
		}
		resp := answer(req, http.StatusOK, "", http.Header{"Content-Type": {"application/xml"}})
		resp.Body = io.NopCloser(strings.NewReader("<UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid><SignedStart>" + between("Start") +
			"</SignedStart><SignedExpiry>" + between("Expiry") + "</SignedExpiry><SignedService>b</SignedService><SignedVersion>2026-12-06</SignedVersion><Value>" +
			strings.Repeat("A", int(4*n)) + "</Value></UserDelegationKey>"))
		return resp, nil
	})}
	b, err := newBucket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newBucket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2030, 5, 1, 13, 14, 15, 0, time.UTC)
	sign := func(b *bucket, at time.Time, expires time.Duration) (drivers.Signed, url.Values) {
		t.Helper()
		s, err := b.sign.get(t.Context(), "k", at, drivers.SignOptions{Expires: expires, Window: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		return s, u.Query()
	}

	first, q := sign(b, at, time.Hour)
	again, _ := sign(b, at.Add(30*time.Minute), time.Hour)
	if first != again || asked.Load() != 1 {
		t.Errorf("two URLs of a window are %s and %s, for %d keys, want them equal, for 1", first.URL, again.URL, asked.Load())
	}
	if q.Get("st") != "2030-05-01T12:45:00Z" {
		t.Errorf("the URL starts at %s, want 15 minutes before the window", q.Get("st"))
	}
	if q.Get("skt") != "2030-04-30T23:45:00Z" || q.Get("ske") != "2030-05-07T23:45:00Z" || q.Get("se") != "2030-05-01T15:00:00Z" || q.Get("sp") != "r" || q.Get("spr") != "https" {
		t.Errorf("the URL has the key's times %s and %s, and %s for %s by %s", q.Get("skt"), q.Get("ske"), q.Get("se"), q.Get("sp"), q.Get("spr"))
	}
	// The times in the URL and in Signed are whole seconds.
	s, err := b.sign.get(t.Context(), "k", at.Add(999*time.Millisecond), drivers.SignOptions{Expires: time.Hour})
	if want := at.Add(time.Hour); err != nil || !s.Expires.Equal(want) || !strings.Contains(s.URL, "se="+url.QueryEscape(want.Format(sas.TimeFormat))) {
		t.Errorf("SignGet without a window = %+v, %v, want it to expire at %v", s, err, want)
	}
	// The key of the next day exists already when a request of this day signs.
	ahead, _ := newBucket(cfg)
	sign(ahead, time.Date(2030, 5, 2, 0, 0, 0, 0, time.UTC), time.Hour)
	if _, p := sign(ahead, at, time.Hour); p.Get("st") != p.Get("skt") {
		t.Errorf("the URL starts at %s, before its key does, at %s", p.Get("st"), p.Get("skt"))
	}
	if _, p := sign(other, at.Add(5*time.Hour), time.Hour); p.Get("skt") != q.Get("skt") || p.Get("ske") != q.Get("ske") {
		t.Errorf("another replica asks for the key of %s to %s, want %s to %s", p.Get("skt"), p.Get("ske"), q.Get("skt"), q.Get("ske"))
	}
	if s, _ := sign(b, at, 7*24*time.Hour); !s.Expires.Equal(time.Date(2030, 5, 7, 23, 45, 0, 0, time.UTC)) {
		t.Errorf("a URL for a week expires %v, want it to with the key", s.Expires)
	}
	before := asked.Load()
	if _, p := sign(b, at.Add(24*time.Hour), time.Hour); p.Get("skt") != "2030-05-01T23:45:00Z" || asked.Load() != before+1 {
		t.Errorf("the next day's key is of %s, after %d requests, want a new one", p.Get("skt"), asked.Load()-before)
	}
	down.Store(true)
	if _, p := sign(b, at.Add(72*time.Hour), time.Hour); p.Get("skt") != "2030-05-01T23:45:00Z" {
		t.Errorf("with the service down the key is of %s, want the last one it gave", p.Get("skt"))
	}
	s, err = b.sign.get(t.Context(), "k", at.Add(6*24*time.Hour), drivers.SignOptions{Expires: time.Hour})
	if err == nil {
		t.Errorf("with the service down, and the last key about to expire, SignGet = %+v, want an error", s)
	}
	if n := refused.Load(); n != 1 {
		t.Errorf("with the service down there were %d requests at once, want 1", n)
	}
}

// TestDelegationDenied has an identity with all rights to blobs, but without
// the right to get a key.
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
				t.Errorf("SignGet, %s = %v, which names a role that does not mend it", code, err)
			}
		}
	}
	_, err := denied("AuthorizationPermissionMismatch").Stat(t.Context(), "k")
	wantError(t, "Stat", err, drivers.ErrRefused, "Storage Blob Data Contributor on the container")
}

// TestDelegationDown has a service that is down. Reads continue with the last
// key. Reads without a key fail at once, except for one that asks now and then.
func TestDelegationDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		b, err := newBucket(Config{Account: "account", Container: "container", identity: token{}, Transport: wire(func(req *http.Request) (*http.Response, error) {
			asked.Add(1)
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
		began := time.Now()
		if err := sign(day); err != nil || asked.Load() != 1 || time.Since(began) > 0 {
			t.Errorf("a key during another request for one = %v, after %d requests and %v, want the last at once", err, asked.Load(), time.Since(began))
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()

		refuse := errors.New("no route")
		b.sign.delegated.failed, b.sign.delegated.pause = refuse, time.Now().Add(keyPause)
		before := asked.Load()
		if err := sign(day); err != nil || asked.Load() != before {
			t.Errorf("a key just after a failure = %v, with %d requests, want the last, with none", err, asked.Load()-before)
		}
		if err := sign(day.Add(4 * keyPeriod)); !errors.Is(err, refuse) || asked.Load() != before {
			t.Errorf("a key just after a failure, without a key kept = %v, with %d requests, want %v, with none", err, asked.Load()-before, refuse)
		}
		time.Sleep(keyPause)
		if err := sign(day.Add(4 * keyPeriod)); err == nil || asked.Load() == before {
			t.Errorf("a key after the pause = %v, with %d requests, want one more", err, asked.Load()-before)
		}
	})
}

// TestDelegationSilent has a service that accepts requests for keys and never
// answers. Each half minute one request waits for it; reads wait only for a
// moment, even if the caller that made the request has left.
func TestDelegationSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		b, err := newBucket(Config{Account: "account", Container: "container", identity: token{}, Transport: wire(func(req *http.Request) (*http.Response, error) {
			asked.Add(1)
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
		began := time.Now()
		for range 3 {
			if s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute}); !errors.Is(err, drivers.ErrBusy) {
				t.Errorf("SignGet by a silent service = %+v, %v, want %v", s, err, drivers.ErrBusy)
			}
		}
		if d := time.Since(began); d > keyWait || asked.Load() != 1 {
			t.Errorf("three reads waited for %v and %d requests, want at most %v and 1", d, asked.Load(), keyWait)
		}
	})
}

// containerSAS returns a SAS for cfg's container with the permissions that
// Config requires, and readSAS one with too few.
func containerSAS(t *testing.T, cfg Config) string {
	t.Helper()
	return expiringSAS(t, cfg, time.Now().Add(time.Hour))
}

func expiringSAS(t *testing.T, cfg Config, expires time.Time) string {
	t.Helper()
	return signSAS(t, cfg, sas.ContainerPermissions{Read: true, Add: true, Create: true, Write: true, Delete: true, List: true}, expires)
}

func readSAS(t *testing.T, cfg Config) string {
	t.Helper()
	return signSAS(t, cfg, sas.ContainerPermissions{Read: true, List: true}, time.Now().Add(time.Hour))
}

func signSAS(t *testing.T, cfg Config, permissions sas.ContainerPermissions, expires time.Time) string {
	t.Helper()
	key, err := container.NewSharedKeyCredential(cfg.Account, cfg.SharedKey)
	if err != nil {
		t.Fatal(err)
	}
	q, err := sas.BlobSignatureValues{
		ExpiryTime: expires.UTC(), Permissions: permissions.String(), ContainerName: cfg.Container,
	}.SignWithSharedKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return q.Encode()
}
