package s3

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

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

// issuer is a double of all services that issue credentials: a container's
// agent, an instance's metadata and STS.
type issuer struct {
	*httptest.Server
	dir string // has the files token and credentials.json

	expires time.Time

	// The failure of the services, unless status is zero.
	status            int
	contentType, body string

	// The failure of the bucket, or nil.
	store func(http.ResponseWriter)
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{dir: t.TempDir(), expires: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	i.write(t, "token", "JWT")
	i.write(t, "credentials.json", fmt.Sprintf(`{"Version":1,"AccessKeyId":"ISSUED","SecretAccessKey":"secret","SessionToken":"TOKEN","Expiration":%q}`, i.expires.Format(time.RFC3339)))
	return i
}

func (i *issuer) file(name string) string { return filepath.Join(i.dir, name) }

func (i *issuer) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(i.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const role = "/latest/meta-data/iam/security-credentials/"
	expires := i.expires.Format(time.RFC3339)
	if i.status != 0 {
		w.Header().Set("Content-Type", i.contentType)
		w.WriteHeader(i.status)
		fmt.Fprint(w, i.body)
		return
	}
	switch {
	case r.URL.Path == "/container" && r.Header.Get("Authorization") == "JWT":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"AccessKeyId":"ISSUED","SecretAccessKey":"secret","Token":"TOKEN","Expiration":%q}`, expires)
	case r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut:
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		fmt.Fprint(w, "SESSION")
	case r.URL.Path == role && r.Header.Get("X-Aws-Ec2-Metadata-Token") == "SESSION":
		fmt.Fprint(w, "berth")
	case r.URL.Path == role+"berth":
		fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"ISSUED","SecretAccessKey":"secret","Token":"TOKEN","Expiration":%q}`, expires)
	case r.FormValue("Action") == "AssumeRoleWithWebIdentity" && r.FormValue("RoleArn") == "arn:aws:iam::1:role/berth" && r.FormValue("WebIdentityToken") == "JWT":
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
			`<AccessKeyId>ISSUED</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>TOKEN</SessionToken>`+
			`<Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, expires)
	default:
		http.Error(w, "unexpected request", http.StatusTeapot)
	}
}

// failure is a way in which a source of credentials, or the store, can fail.
type failure struct {
	name string
	fail func(i *issuer)
	want error
}

// responds is a failure of the service with this response.
func responds(status int, contentType, body string, want error) failure {
	name := fmt.Sprintf("%d %s", status, body)
	return failure{name, func(i *issuer) { i.status, i.contentType, i.body = status, contentType, body }, want}
}

// stsError is a failure of STS with this error.
func stsError(status int, code string, want error) failure {
	return responds(status, "text/xml", "<ErrorResponse><Error><Type>Sender</Type><Code>"+code+"</Code><Message>no</Message></Error></ErrorResponse>", want)
}

// noFile is the absence of a file.
func noFile(name string) failure {
	return failure{"no " + name, func(i *issuer) { _ = os.Remove(i.file(name)) }, drivers.ErrRefused}
}

// source is a place where the SDK looks for credentials.
type source struct {
	name     string
	set      func(t *testing.T, i *issuer)
	failures []failure
}

func sources() []source {
	down := failure{"down", func(i *issuer) { i.Close() }, drivers.ErrBusy}
	const text, json = "text/plain", "application/json"
	return []source{
		{"environment", func(t *testing.T, _ *issuer) {
			t.Setenv("AWS_ACCESS_KEY_ID", "ISSUED")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			t.Setenv("AWS_SESSION_TOKEN", "TOKEN")
		}, []failure{
			{"expired", func(i *issuer) {
				i.store = func(w http.ResponseWriter) { refuse(w, http.StatusBadRequest, "ExpiredToken") }
			}, drivers.ErrRefused},
		}},
		{"process of a profile", func(t *testing.T, i *issuer) {
			i.write(t, "config", "[default]\ncredential_process = cat "+i.file("credentials.json")+" 2>/dev/null\n")
			t.Setenv("AWS_CONFIG_FILE", i.file("config"))
		}, []failure{noFile("credentials.json")}},
		{"container", func(t *testing.T, i *issuer) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", i.URL+"/container")
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", i.file("token"))
		}, []failure{
			responds(400, text, "bad token", drivers.ErrRefused),
			responds(403, text, "no role", drivers.ErrRefused),
			responds(404, text, "no role", drivers.ErrRefused),
			responds(404, json, `{"code":"NotFound","message":"no role"}`, drivers.ErrRefused),
			responds(404, json, `{"code":"NoSuchKey","message":"no role"}`, drivers.ErrRefused),
			responds(429, text, "slowly", drivers.ErrBusy),
			responds(500, text, "oops", drivers.ErrBusy),
			responds(503, json, `{"code":"x","message":"oops"}`, drivers.ErrBusy),
			noFile("token"),
			down,
		}},
		{"web identity", func(t *testing.T, i *issuer) {
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", i.file("token"))
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/berth")
			t.Setenv("AWS_ENDPOINT_URL_STS", i.URL)
		}, []failure{
			stsError(400, "ExpiredTokenException", drivers.ErrRefused),
			stsError(403, "AccessDenied", drivers.ErrRefused),
			stsError(400, "IDPCommunicationError", drivers.ErrBusy),
			stsError(400, "Throttling", drivers.ErrBusy),
			stsError(500, "InternalFailure", drivers.ErrBusy),
			noFile("token"),
			down,
		}},
		{"instance", func(t *testing.T, i *issuer) {
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", i.URL)
		}, []failure{
			responds(404, text, "no role", drivers.ErrRefused),
			responds(403, text, "IMDS is off", drivers.ErrRefused),
			responds(500, text, "oops", drivers.ErrBusy),
			down,
		}},
	}
}

// TestCredentialsSources takes credentials from each place where the SDK looks,
// and then lets the place fail.
func TestCredentialsSources(t *testing.T) {
	for _, source := range sources() {
		for _, failure := range source.failures {
			t.Run(source.name+", "+failure.name, func(t *testing.T) {
				noCredentials(t)
				i := newIssuer(t)
				source.set(t, i)
				testSource(t, i, failure)
			})
		}
	}
}

func testSource(t *testing.T, i *issuer, failure failure) {
	var last http.Header
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if last = r.Header.Clone(); i.store != nil {
			i.store(w)
		}
	}))
	t.Cleanup(store.Close)
	b, c := connectBucket(t, Config{Bucket: "b", Region: "eu-west-1", Endpoint: store.URL, PathStyle: true, Retries: -1})
	if err := b.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if got := last.Get("Authorization"); !strings.Contains(got, "Credential=ISSUED/") || last.Get("X-Amz-Security-Token") != "TOKEN" {
		t.Errorf("Delete has Authorization: %s and the session token %q, want ISSUED and TOKEN", got, last.Get("X-Amz-Security-Token"))
	}

	failure.fail(i)
	if cache, ok := c.sdk.Credentials.(*credentialsCache); ok && i.store == nil { // as if they had expired
		cache.current.Store(nil)
		cache.source.Load().Invalidate()
	}
	calls := map[string]func() error{
		"Open":     func() error { _, _, err := b.Open(t.Context(), "k", 0, -1); return err },
		"Stat":     func() error { _, err := b.Stat(t.Context(), "k"); return err },
		"Create":   func() error { _, err := b.Create(t.Context(), "k", textBody("x")); return err },
		"Delete":   func() error { return b.Delete(t.Context(), "k") },
		"DeleteIf": func() error { return b.DeleteIf(t.Context(), "k", "tag") },
		"Abort":    func() error { return b.Abort(t.Context(), drivers.Upload{Key: "data/k", ID: "id"}) },
		"List":     func() error { return firstError(b.List(t.Context(), "", "", 0)) },
	}
	if i.store == nil { // any credentials can sign a URL
		calls["SignGet"] = func() error {
			_, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
			return err
		}
	}
	for name, call := range calls {
		wantOnly(t, call(), failure.want, name)
	}
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
		t.Errorf("Retrieve = %s, which expires at %v, %v, want FROMCONTAINER at %v", c.AccessKeyID, c.Expires, err, expires)
	}
}
