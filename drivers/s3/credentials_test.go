package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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

// TestCredentialsOfContainer: those of a container's role are known to expire
// when they do, though the SDK itself would have them expire minutes before.
func TestCredentialsOfContainer(t *testing.T) {
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"AccessKeyId":"FROMCONTAINER","SecretAccessKey":"secret","Token":"TOKEN","Expiration":%q}`, expires.Format(time.RFC3339))
	}))
	t.Cleanup(server.Close)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)

	sdk, err := (&Config{Bucket: "b", Region: "eu-west-1"}).load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := sdk.Credentials.Retrieve(t.Context())
	if err != nil || c.AccessKeyID != "FROMCONTAINER" || !c.Expires.Equal(expires) {
		t.Errorf("Retrieve = %s that expires at %v, %v, want FROMCONTAINER, at %v", c.AccessKeyID, c.Expires, err, expires)
	}
}
