package s3

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/berthhq/berth/drivers"
)

// TestCredentialsRefresh watches a role whose credentials last an hour, and
// signs all through them.
func TestCredentialsRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		down := false
		r := &refreshing{cache: aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			if down {
				return aws.Credentials{}, errors.New("no answer")
			}
			c := testCredentials
			c.SessionToken, c.CanExpire, c.Expires = "token", true, time.Now().Add(time.Hour)
			return c, nil
		}))}
		s := testSigner(t, Config{}, testCredentials)
		s.credentials = r
		const least = credentialWindow - credentialMargin - 2*time.Second
		sign := func() {
			signed, err := s.sign(t.Context(), "data/k", drivers.SignOptions{Expires: 20 * time.Minute}, time.Now())
			if left := time.Until(signed.Expires); err != nil || left < least || left > 20*time.Minute {
				t.Errorf("%v after the start a URL is good for %v, %v, want %v to 20m", time.Now(), left, err, least)
			}
		}
		for range 5 * 60 { // hours
			sign()
			time.Sleep(time.Minute)
		}
		if n := asked.Load(); n < 6 || n > 7 {
			t.Errorf("asked for credentials %d times in five hours, want once for each 50 minutes", n)
		}

		// Down: what is kept is good to its end, and the service is asked now and then.
		c, err := r.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(c.Expires) - credentialWindow + time.Second)
		down = true
		before, began := asked.Load(), time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got, err := r.Retrieve(t.Context()); err != nil || !got.Expires.Equal(c.Expires) {
					t.Errorf("Retrieve, with no new ones = %v, %v, want those that are good until %v", got.Expires, err, c.Expires)
				}
			})
		}
		wg.Wait()
		if n := asked.Load() - before; n != 1 || time.Since(began) > time.Second {
			t.Errorf("50 at once asked %d times and took %v, want 1", n, time.Since(began))
		}
		time.Sleep(time.Until(c.Expires))
		if got, err := r.Retrieve(t.Context()); err == nil {
			t.Errorf("Retrieve after the end = %v, want an error", got.Expires)
		}
		down = false
		sign()
	})
}
