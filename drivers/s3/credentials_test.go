package s3

import (
	"context"
	"errors"
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
	"github.com/aws/smithy-go"

	"github.com/berthhq/berth/drivers"
)

// cacheOf returns a cache of credentials from this source.
func cacheOf(source aws.CredentialsProviderFunc) *credentialsCache {
	c := new(credentialsCache)
	c.source.Store(aws.NewCredentialsCache(source))
	return c
}

// TestCredentialsRefresh signs URLs all the time with a role. Its credentials
// last one hour.
func TestCredentialsRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		down, wait := false, time.Second
		r := cacheOf(func(context.Context) (aws.Credentials, error) {
			asked.Add(1)
			time.Sleep(wait)
			if down {
				return aws.Credentials{}, errors.New("no answer")
			}
			c := testCredentials
			c.SessionToken, c.CanExpire, c.Expires = "token", true, time.Now().Add(time.Hour)
			return c, nil
		})
		s := testSigner(t, Config{}, testCredentials)
		s.credentials = r
		const least = 20*time.Minute - 2*time.Second
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
		if n := asked.Load(); n < 10 || n > 11 {
			t.Errorf("%d requests for credentials in five hours, want one every 30 minutes", n)
		}

		// Down: the current credentials stay valid to their end, and the
		// service is asked now and then.
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
			t.Errorf("50 concurrent calls made %d requests and took %v, want 1", n, time.Since(began))
		}
		wait = time.Hour
		time.Sleep(time.Until(c.Expires.Add(-credentialMargin)))
		began = time.Now()
		if got, err := r.Retrieve(t.Context()); err != nil || !got.Expires.Equal(c.Expires) || time.Since(began) > credentialTimeout {
			t.Errorf("Retrieve, of a service that keeps silent = %v, %v after %v, want those that are good until %v", got.Expires, err, time.Since(began), c.Expires)
		}
		time.Sleep(time.Until(c.Expires))
		began = time.Now()
		if got, err := r.Retrieve(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > credentialTimeout {
			t.Errorf("Retrieve after the end, of a service that keeps silent = %v, %v after %v, want an error within %v", got.Expires, err, time.Since(began), credentialTimeout)
		}
		time.Sleep(time.Hour) // until it has been silent for long enough
		synctest.Wait()
		wait = time.Second
		if got, err := r.Retrieve(t.Context()); err == nil {
			t.Errorf("Retrieve after the end = %v, want an error", got.Expires)
		}
		down = false
		sign()
	})
}

// TestCredentialsRenewed counts the requests for credentials in a day, and
// checks that the returned ones never expire.
func TestCredentialsRenewed(t *testing.T) {
	for name, giver := range map[string]struct {
		life, early time.Duration // new ones are issued this long before the old ones end, or at any time
		want        int
	}{
		"a session of a quarter of an hour": {15 * time.Minute, 15 * time.Minute, 24 * 60 * 2 / 15},
		"a session of an hour":              {time.Hour, time.Hour, 24 * 2},
		"keys without an end":               {0, 0, 1},
		"an EC2 instance":                   {6 * time.Hour, 5 * time.Minute, 24/6*25 + 1}, // each minute from half an hour to five minutes before
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				given := testCredentials
				given.CanExpire = giver.life > 0
				r := cacheOf(func(context.Context) (aws.Credentials, error) {
					asked++
					if given.CanExpire && time.Until(given.Expires) <= giver.early {
						given.AccessKeyID, given.Expires = fmt.Sprint("key ", asked), time.Now().Add(giver.life)
					}
					return given, nil
				})
				for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(10 * time.Second) {
					if c, err := r.Retrieve(t.Context()); err != nil || c.CanExpire && time.Until(c.Expires) < min(giver.early, giver.life/2)-time.Minute {
						t.Fatalf("after %v: credentials for %v, %v", time.Since(start), time.Until(c.Expires), err)
					}
				}
				if slack := giver.want / 8; asked < giver.want-slack || asked > giver.want+slack {
					t.Errorf("%d requests in a day, want about %d", asked, giver.want)
				}
			})
		})
	}
}

// noCredentials hides all credentials from the SDK.
func noCredentials(t *testing.T) {
	t.Helper()
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}

// giver is a double of all services that issue credentials: a container's
// agent, an instance's metadata and STS.
type giver struct {
	*httptest.Server
	dir string // has the files token and credentials.json

	expires time.Time

	// The failure of the services, unless status is zero, and of the bucket.
	status            int
	contentType, body string
	store             func(http.ResponseWriter)
}

func newGiver(t *testing.T) *giver {
	g := &giver{dir: t.TempDir(), expires: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	g.write(t, "token", "JWT")
	g.write(t, "credentials.json", fmt.Sprintf(`{"Version":1,"AccessKeyId":"GIVEN","SecretAccessKey":"secret","SessionToken":"TOKEN","Expiration":%q}`, g.expires.Format(time.RFC3339)))
	return g
}

func (g *giver) file(name string) string { return filepath.Join(g.dir, name) }

func (g *giver) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(g.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (g *giver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const role = "/latest/meta-data/iam/security-credentials/"
	expires := g.expires.Format(time.RFC3339)
	if g.status != 0 {
		w.Header().Set("Content-Type", g.contentType)
		w.WriteHeader(g.status)
		fmt.Fprint(w, g.body)
		return
	}
	switch {
	case r.URL.Path == "/container" && r.Header.Get("Authorization") == "JWT":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"AccessKeyId":"GIVEN","SecretAccessKey":"secret","Token":"TOKEN","Expiration":%q}`, expires)
	case r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut:
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		fmt.Fprint(w, "SESSION")
	case r.URL.Path == role && r.Header.Get("X-Aws-Ec2-Metadata-Token") == "SESSION":
		fmt.Fprint(w, "berth")
	case r.URL.Path == role+"berth":
		fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"GIVEN","SecretAccessKey":"secret","Token":"TOKEN","Expiration":%q}`, expires)
	case r.FormValue("Action") == "AssumeRoleWithWebIdentity" && r.FormValue("RoleArn") == "arn:aws:iam::1:role/berth" && r.FormValue("WebIdentityToken") == "JWT":
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
			`<AccessKeyId>GIVEN</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>TOKEN</SessionToken>`+
			`<Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, expires)
	default:
		http.Error(w, "not asked like this", http.StatusTeapot)
	}
}

// TestCredentialsSources has credentials in each place where the SDK looks, and
// then lets the place fail in service.
func TestCredentialsSources(t *testing.T) {
	type failure struct {
		name string
		fail func(g *giver)
		want error
	}
	answers := func(status int, contentType, body string, want error) failure {
		name := fmt.Sprintf("%d %s", status, body)
		return failure{name, func(g *giver) { g.status, g.contentType, g.body = status, contentType, body }, want}
	}
	stsError := func(status int, code string, want error) failure {
		return answers(status, "text/xml", "<ErrorResponse><Error><Type>Sender</Type><Code>"+code+"</Code><Message>no</Message></Error></ErrorResponse>", want)
	}
	gone := func(name string) failure {
		return failure{"no " + name, func(g *giver) { _ = os.Remove(g.file(name)) }, drivers.ErrRefused}
	}
	down := failure{"down", func(g *giver) { g.Close() }, drivers.ErrBusy}
	const text, json = "text/plain", "application/json"
	for _, test := range []struct {
		name     string
		set      func(t *testing.T, g *giver)
		failures []failure
	}{
		{"environment", func(t *testing.T, _ *giver) {
			t.Setenv("AWS_ACCESS_KEY_ID", "GIVEN")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			t.Setenv("AWS_SESSION_TOKEN", "TOKEN")
		}, []failure{
			{"expired", func(g *giver) {
				g.store = func(w http.ResponseWriter) { fails(w, http.StatusBadRequest, "ExpiredToken") }
			}, drivers.ErrRefused},
		}},
		{"process of a profile", func(t *testing.T, g *giver) {
			g.write(t, "config", "[default]\ncredential_process = cat "+g.file("credentials.json")+" 2>/dev/null\n")
			t.Setenv("AWS_CONFIG_FILE", g.file("config"))
		}, []failure{gone("credentials.json")}},
		{"container", func(t *testing.T, g *giver) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", g.URL+"/container")
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", g.file("token"))
		}, []failure{
			answers(400, text, "bad token", drivers.ErrRefused),
			answers(403, text, "no role", drivers.ErrRefused),
			answers(404, text, "no role", drivers.ErrRefused),
			answers(404, json, `{"code":"NotFound","message":"no role"}`, drivers.ErrRefused),
			answers(404, json, `{"code":"NoSuchKey","message":"no role"}`, drivers.ErrRefused),
			answers(429, text, "slowly", drivers.ErrBusy),
			answers(500, text, "oops", drivers.ErrBusy),
			answers(503, json, `{"code":"x","message":"oops"}`, drivers.ErrBusy),
			gone("token"),
			down,
		}},
		{"web identity", func(t *testing.T, g *giver) {
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", g.file("token"))
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/berth")
			t.Setenv("AWS_ENDPOINT_URL_STS", g.URL)
		}, []failure{
			stsError(400, "ExpiredTokenException", drivers.ErrRefused),
			stsError(403, "AccessDenied", drivers.ErrRefused),
			stsError(400, "IDPCommunicationError", drivers.ErrBusy),
			stsError(400, "Throttling", drivers.ErrBusy),
			stsError(500, "InternalFailure", drivers.ErrBusy),
			gone("token"),
			down,
		}},
		{"instance", func(t *testing.T, g *giver) {
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", g.URL)
		}, []failure{
			answers(404, text, "no role", drivers.ErrRefused),
			answers(403, text, "IMDS is off", drivers.ErrRefused),
			answers(500, text, "oops", drivers.ErrBusy),
			down,
		}},
	} {
		for _, failure := range test.failures {
			t.Run(test.name+", "+failure.name, func(t *testing.T) {
				noCredentials(t)
				g := newGiver(t)
				test.set(t, g)
				var last http.Header
				store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if last = r.Header.Clone(); g.store != nil {
						g.store(w)
					}
				}))
				t.Cleanup(store.Close)
				cfg := Config{Bucket: "b", Region: "eu-west-1", Endpoint: store.URL, PathStyle: true, Retries: -1}
				b, c := connectBucket(t, cfg)
				b.conditionalDelete = true
				if err := b.Delete(t.Context(), "k"); err != nil {
					t.Fatal(err)
				}
				if got := last.Get("Authorization"); !strings.Contains(got, "Credential=GIVEN/") || last.Get("X-Amz-Security-Token") != "TOKEN" {
					t.Errorf("Delete has Authorization: %s and the session token %q, want GIVEN and TOKEN", got, last.Get("X-Amz-Security-Token"))
				}

				failure.fail(g)
				if cache, ok := c.sdk.Credentials.(*credentialsCache); ok && g.store == nil { // as if they had expired
					cache.current.Store(nil)
					cache.source.Load().Invalidate()
				}
				calls := map[string]func() error{
					"Open":     func() error { _, _, err := b.Open(t.Context(), "k", 0, -1); return err },
					"Stat":     func() error { _, err := b.Stat(t.Context(), "k"); return err },
					"Create":   func() error { _, err := b.Create(t.Context(), "k", drivers.NewBody([]byte("x"))); return err },
					"Delete":   func() error { return b.Delete(t.Context(), "k") },
					"DeleteIf": func() error { return b.DeleteIf(t.Context(), "k", "tag") },
					"Abort":    func() error { return b.Abort(t.Context(), drivers.Upload{Key: "data/k", ID: "id"}) },
					"List":     func() error { return firstError(b.List(t.Context(), "", "")) },
				}
				if g.store == nil { // any credentials can sign a URL
					calls["SignGet"] = func() error {
						_, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
						return err
					}
				}
				for name, call := range calls {
					if err := call(); sentinels(err) != failure.want.Error() {
						t.Errorf("%s = %v (%s), want %v", name, err, sentinels(err), failure.want)
					}
				}
			})
		}
	}
}

// TestCredentialsTimeout has a metadata service that hangs: the SDK waits five
// seconds for it, with all retries.
func TestCredentialsTimeout(t *testing.T) {
	err := &credentialsError{&smithy.CanceledError{Err: context.DeadlineExceeded}}
	wantBusy(t, advisor{}.classify(t.Context(), err), "a call for which there are no credentials in time")
}

// TestCredentialsAtTheirEnd checks that a URL that would outlive its
// credentials is not signed until there are new ones.
func TestCredentialsAtTheirEnd(t *testing.T) {
	c := testCredentials
	c.SessionToken, c.CanExpire, c.Expires = "token", true, time.Now().Add(credentialMargin/2)
	b := &bucket{store: new(store), signer: testSigner(t, Config{}, c)}
	_, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Hour})
	wantRefused(t, err, "SignGet with credentials at their end")
}

// TestCredentialsOfContainer checks the expiry of the credentials of a
// container's role. The SDK itself would treat them as expired minutes earlier.
func TestCredentialsOfContainer(t *testing.T) {
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"AccessKeyId":"FROMCONTAINER","SecretAccessKey":"secret","Token":"TOKEN","Expiration":%q}`, expires.Format(time.RFC3339))
	}))
	t.Cleanup(server.Close)
	noCredentials(t)
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
