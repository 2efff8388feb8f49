package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/berthhq/berth/drivers"
)

// cacheOf returns a cache of credentials from this source.
func cacheOf(source aws.CredentialsProviderFunc) *credentialsCache {
	c := new(credentialsCache)
	c.source.Store(aws.NewCredentialsCache(source))
	return c
}

// role is a service that issues credentials for one hour.
type role struct {
	requests atomic.Int32
	down     bool
	delay    time.Duration // of each response
}

func (r *role) Retrieve(context.Context) (aws.Credentials, error) {
	r.requests.Add(1)
	time.Sleep(r.delay)
	if r.down {
		return aws.Credentials{}, errors.New("no answer")
	}
	c := testCredentials
	c.SessionToken, c.CanExpire, c.Expires = "token", true, time.Now().Add(time.Hour)
	return c, nil
}

// TestCredentialsRefresh signs URLs for five hours with a role. Its credentials
// last one hour.
func TestCredentialsRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &role{delay: time.Second}
		wantSigned := wantSignedBy(t, cacheOf(r.Retrieve))
		for range 5 * 60 { // hours
			wantSigned()
			time.Sleep(time.Minute)
		}
		if n := r.requests.Load(); n < 10 || n > 11 {
			t.Errorf("%d requests for credentials in five hours, want one every 30 minutes", n)
		}
	})
}

// wantSignedBy returns a function that fails the test unless credentials of the
// cache sign a URL of 20 minutes.
func wantSignedBy(t *testing.T, cache *credentialsCache) func() {
	t.Helper()
	s := testSigner(t, Config{}, testCredentials)
	s.credentials = cache
	const least = 20*time.Minute - 2*time.Second
	return func() {
		t.Helper()
		signed, err := s.sign(t.Context(), "data/k", drivers.SignOptions{Expires: 20 * time.Minute}, time.Now())
		if left := time.Until(signed.Expires); err != nil || left < least || left > 20*time.Minute {
			t.Errorf("at %v a URL is valid for %v, %v, want %v to 20m", time.Now(), left, err, least)
		}
	}
}

// TestCredentialsServiceDown has the service fail, and then stay silent. The
// current credentials are used to their end, and the service is asked once a
// minute.
func TestCredentialsServiceDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &role{delay: time.Second}
		cache := cacheOf(r.Retrieve)
		wantSigned := wantSignedBy(t, cache)
		wantSigned()
		c, err := cache.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantCurrent := func(when string, within time.Duration) {
			start := time.Now()
			got, err := cache.Retrieve(t.Context())
			if took := time.Since(start); err != nil || !got.Expires.Equal(c.Expires) || took > within {
				t.Errorf("Retrieve %s = %v, %v after %v, want the credentials that expire at %v within %v", when, got.Expires, err, took, c.Expires, within)
			}
		}

		time.Sleep(time.Until(c.Expires) - credentialWindow + time.Second)
		r.down = true
		before := r.requests.Load()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { wantCurrent("while the service is down", time.Second) })
		}
		wg.Wait()
		if n := r.requests.Load() - before; n != 1 {
			t.Errorf("50 concurrent calls made %d requests, want 1", n)
		}

		r.delay = time.Hour
		time.Sleep(time.Until(c.Expires.Add(-credentialMargin)))
		wantCurrent("while the service is silent", credentialTimeout)
		time.Sleep(time.Until(c.Expires))
		start := time.Now()
		got, err := cache.Retrieve(t.Context())
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > credentialTimeout {
			t.Errorf("Retrieve of expired credentials while the service is silent = %v, %v after %v, want an error within %v", got.Expires, err, took, credentialTimeout)
		}
		time.Sleep(time.Hour) // until the silent requests have ended
		synctest.Wait()
		r.delay = time.Second
		if got, err := cache.Retrieve(t.Context()); err == nil {
			t.Errorf("Retrieve of expired credentials while the service is down = %v, want an error", got.Expires)
		}
		r.down = false
		wantSigned()
	})
}

// TestCredentialsRenewed counts the requests for credentials in a day, and
// checks that the returned credentials have not expired.
func TestCredentialsRenewed(t *testing.T) {
	for name, issuer := range map[string]struct {
		life, early time.Duration // new credentials are issued this long before the old ones expire, or at any time
		want        int
	}{
		"a session of a quarter of an hour": {15 * time.Minute, 15 * time.Minute, 24 * 60 * 2 / 15},
		"a session of an hour":              {time.Hour, time.Hour, 24 * 2},
		"keys that never expire":            {0, 0, 1},
		"an EC2 instance":                   {6 * time.Hour, 5 * time.Minute, 24/6*25 + 1}, // one a minute, from half an hour to five minutes before
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				current := testCredentials
				current.CanExpire = issuer.life > 0
				r := cacheOf(func(context.Context) (aws.Credentials, error) {
					requests++
					if current.CanExpire && time.Until(current.Expires) <= issuer.early {
						current.AccessKeyID, current.Expires = fmt.Sprint("key ", requests), time.Now().Add(issuer.life)
					}
					return current, nil
				})
				for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(10 * time.Second) {
					if c, err := r.Retrieve(t.Context()); err != nil || c.CanExpire && time.Until(c.Expires) < min(issuer.early, issuer.life/2)-time.Minute {
						t.Fatalf("Retrieve after %v = credentials for %v, %v, want credentials that are not about to expire", time.Since(start), time.Until(c.Expires), err)
					}
				}
				if slack := issuer.want / 8; requests < issuer.want-slack || requests > issuer.want+slack {
					t.Errorf("%d requests in a day, want about %d", requests, issuer.want)
				}
			})
		})
	}
}

// TestCredentialsTimeout checks the error of a metadata service that hangs: the
// SDK waits five seconds for it, with all retries.
func TestCredentialsTimeout(t *testing.T) {
	err := &credentialsError{&smithy.CanceledError{Err: context.DeadlineExceeded}}
	wantBusy(t, advisor{}.classify(t.Context(), err), "a call for which there are no credentials in time")
}

// TestCredentialsAtTheirEnd checks that no URL is signed that would outlive its
// credentials.
func TestCredentialsAtTheirEnd(t *testing.T) {
	c := testCredentials
	c.SessionToken, c.CanExpire, c.Expires = "token", true, time.Now().Add(credentialMargin/2)
	b := &bucket{store: new(store), signer: testSigner(t, Config{}, c)}
	_, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Hour})
	wantRefused(t, err, "SignGet with credentials that are about to expire")
}
