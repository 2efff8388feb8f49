package s3

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/berthhq/berth/drivers"
)

// keyed is a store that accepts one access key at a time, with a shared
// credentials file.
type keyed struct {
	*httptest.Server
	file string

	accepts atomic.Pointer[string]
	refusal string // the error code for any other key; InvalidAccessKeyId if empty
}

func newKeyed(t *testing.T) (*keyed, Config) {
	t.Helper()
	noCredentials(t)
	k := &keyed{file: filepath.Join(t.TempDir(), "credentials")}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", k.file)
	k.Server = httptest.NewServer(k)
	t.Cleanup(k.Close)
	return k, Config{Bucket: "b", Region: "eu-west-1", Endpoint: k.URL, PathStyle: true}
}

// accept sets the key that the store accepts.
func (k *keyed) accept(id string) { k.accepts.Store(&id) }

// write replaces the text of the file.
func (k *keyed) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(k.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// profile returns a credentials file with this key.
func profile(id string) string {
	return fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = secret\n", id)
}

func (k *keyed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.Header.Get("Authorization"), "Credential="+*k.accepts.Load()+"/") {
		code := k.refusal
		if code == "" {
			code = "InvalidAccessKeyId"
		}
		status := http.StatusForbidden
		if code == "Unauthorized" {
			status = http.StatusUnauthorized
		}
		refuse(w, status, code)
		return
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		w.Header().Set("Content-Range", "bytes 0-0/1")
		w.Header().Set("Content-Length", "1")
		_, _ = w.Write([]byte("x"))
	}
}

// TestSharedFileRefused uses a store that stops accepting the file's first key.
// The refused request reads the file again, and succeeds.
func TestSharedFileRefused(t *testing.T) {
	for _, code := range []string{"InvalidAccessKeyId", "ExpiredToken", "Unauthorized"} {
		for _, retries := range []int{0, -1} {
			t.Run(fmt.Sprint(code, " with Retries ", retries), func(t *testing.T) {
				k, cfg := newKeyed(t)
				k.refusal, cfg.Retries = code, retries
				k.write(t, profile("FIRST"))
				k.accept("FIRST")
				b, c := connectBucket(t, cfg)
				if _, err := b.Stat(t.Context(), "k"); err != nil {
					t.Fatal(err)
				}
				k.accept("SECOND")
				wantRefused(t, b.Delete(t.Context(), "k"), "Delete before the file is replaced")

				c.sdk.Credentials.(*credentialsCache).refused = time.Time{} // as if some time had passed
				k.write(t, profile("SECOND"))
				if retries < 0 { // no request is retried, but the next one has the key
					wantRefused(t, b.Delete(t.Context(), "k"), "Delete without retries")
				}
				if err := b.Delete(t.Context(), "k"); err != nil {
					t.Errorf("Delete after the file was replaced = %v", err)
				}
				k.accept("THIRD")
				k.write(t, profile("THIRD"))
				c.sdk.Credentials.(*credentialsCache).refused = time.Time{}
				if _, err := b.Stat(t.Context(), "k"); retries == 0 && err != nil {
					t.Errorf("Stat after the file was replaced = %v", err)
				}
				signed, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
				if err != nil || !strings.Contains(signed.URL, "X-Amz-Credential=THIRD%2F") {
					t.Errorf("SignGet = %s, %v, want a URL signed by THIRD", signed.URL, err)
				}
			})
		}
	}
}

// TestSharedFileChanged checks that a changed file is read again even while the
// store accepts the old key, and that an unreadable file changes nothing.
func TestSharedFileChanged(t *testing.T) {
	k, cfg := newKeyed(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	k.write(t, profile("FIRST"))
	synctest.Test(t, func(t *testing.T) {
		sdk, err := cfg.load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantKey := func(id string) {
			t.Helper()
			c, err := sdk.Credentials.Retrieve(t.Context())
			if err != nil || c.AccessKeyID != id {
				t.Errorf("Retrieve = %s, %v, want %s", c.AccessKeyID, err, id)
			}
		}
		wantKey("FIRST")
		k.write(t, profile("ANOTHER"))
		time.Sleep(filesPause)
		wantKey("ANOTHER")
		k.write(t, "[default]\naws_access_key_id = HALF\n")
		time.Sleep(2 * credentialPause)
		wantKey("ANOTHER")
		if err := os.Remove(k.file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * credentialPause)
		wantKey("ANOTHER")
		k.write(t, profile("LAST"))
		time.Sleep(credentialPause)
		wantKey("LAST")
	})
}

// TestRefusedPause counts how often the configuration is read again while the
// store refuses all requests. A request that was refused for an earlier key does
// not read it.
func TestRefusedPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var resolved atomic.Int32
		key := "OLD"
		source := func() *aws.CredentialsCache {
			return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: key, SecretAccessKey: "secret"}, nil
			}))
		}
		c := new(credentialsCache)
		c.source.Store(source())
		c.resolve = func(context.Context) (*aws.CredentialsCache, error) {
			resolved.Add(1)
			return source(), nil
		}
		if _, err := c.Retrieve(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for time.Since(start) < time.Minute {
					if c.replaced("OLD", "") {
						t.Error("replaced for the current key = true, want false")
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		if n := resolved.Load(); n < 5 || n > 6 {
			t.Errorf("a minute of refusals read the configuration %d times, want 5 or 6", n)
		}
		key = "NEW"
		time.Sleep(refusalPause)
		before := resolved.Load()
		for range 20 {
			wg.Go(func() {
				if !c.replaced("OLD", "") {
					t.Error("replaced for an earlier key = false, want true")
				}
			})
		}
		wg.Wait()
		if n := resolved.Load() - before; n != 1 {
			t.Errorf("20 refused requests read the configuration %d times, want 1", n)
		}
	})
}
