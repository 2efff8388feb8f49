package s3

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestCheck has settings that the SDK would refuse as well, but later and
// without their names.
func TestCheck(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string // empty if the configuration is valid
	}{
		{Config{Accelerate: true, DualStack: true}, ""},
		{Config{FIPS: true, DualStack: true}, ""},
		{Config{Accelerate: true, PublicEndpoint: "https://s3.example.com"}, ""},
		{Config{Accelerate: true, Endpoint: "https://s3.example.com"}, "s3.Config.Accelerate"},
		{Config{DualStack: true, Endpoint: "https://s3.example.com"}, "s3.Config.DualStack"},
		{Config{FIPS: true, Endpoint: "https://s3.example.com"}, "s3.Config.FIPS"},
		{Config{Accelerate: true, PathStyle: true}, "s3.Config.Accelerate"},
		{Config{Accelerate: true, FIPS: true}, "s3.Config.Accelerate"},
		{Config{StorageClass: "GLACIER"}, "s3.Config.StorageClass"},
		{Config{StorageClass: "DEEP_ARCHIVE"}, "s3.Config.StorageClass"},
		{Config{StorageClass: "GLACIER_IR"}, ""},
		{Config{KMSKeyID: "key"}, "s3.Config.KMSKeyID"},
		{Config{KMSKeyID: "key", SSE: "AES256"}, "s3.Config.KMSKeyID"},
		{Config{KMSKeyID: "key", SSE: "aws:kms:dsse"}, ""},
		{Config{RequestPayer: "me"}, "s3.Config.RequestPayer"},
		{Config{RequestPayer: "requester"}, ""},
		{Config{ExpectedBucketOwner: "12345678901"}, "s3.Config.ExpectedBucketOwner"},
		{Config{ExpectedBucketOwner: "arn:aws:iam:"}, "s3.Config.ExpectedBucketOwner"},
		{Config{ExpectedBucketOwner: "012345678901"}, ""},
	} {
		cfg := test.cfg
		cfg.Bucket, cfg.Region, cfg.AccessKeyID, cfg.SecretAccessKey = "blobs", "us-west-2", "id", "secret"
		err := cfg.check()
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v: check() = %v, want an error that names %s", test.cfg, err, test.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: check() = %v", test.cfg, err)
		}
		if _, err := connect(t.Context(), cfg); err != nil {
			t.Errorf("%+v: connect() = %v", test.cfg, err)
		}
	}
}

// TestRetries counts the requests to a store that is always busy.
func TestRetries(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ retries, want int }{{-1, 1}, {0, 1 + defaultRetries}, {1, 2}} {
		d, cfg := newDouble(t)
		cfg.Retries = test.retries
		b := openBucket(t, cfg)
		d.plays(always("", http.StatusServiceUnavailable, "SlowDown"))
		_, err := b.Create(t.Context(), "k", drivers.NewBody([]byte("text")))
		wantBusy(t, err, "Create")
		if got := len(d.operations()); got != test.want {
			t.Errorf("with Retries %d a Create makes %d requests, want %d", test.retries, got, test.want)
		}
	}
}

// TestRetriesOfMany checks that concurrent requests do not reduce how often one
// request is retried.
func TestRetriesOfMany(t *testing.T) {
	r := (&Config{}).retryer()
	for n := range 1000 {
		if _, err := r.GetRetryToken(t.Context(), errors.New("busy")); err != nil {
			t.Fatalf("after %d failed retries no more are allowed: %v", n, err)
		}
	}
}

// TestConnections checks the size of the pool, and that Close empties it.
func TestConnections(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ connections, want int }{{0, defaultConnections}, {7, 7}} {
		tr := (&Config{Connections: test.connections}).httpClient(nil).GetTransport()
		if tr.MaxIdleConns != test.want || tr.MaxIdleConnsPerHost != test.want || tr.MaxConnsPerHost != 0 {
			t.Errorf("with Connections %d there are %d idle, %d a host, and %d at most, want %d, %d, 0",
				test.connections, tr.MaxIdleConns, tr.MaxIdleConnsPerHost, tr.MaxConnsPerHost, test.want, test.want)
		}
	}
	d, cfg := newDouble(t)
	d.plays(nil)
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	server := httptest.NewUnstartedServer(d)
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			open[c] = true
		case http.StateClosed, http.StateHijacked:
			delete(open, c)
		default:
		}
	}
	server.Start()
	defer server.Close()
	cfg.Endpoint = server.URL
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		mu.Lock()
		left := len(open)
		mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after Close %d connections are open, want none", left)
		}
	}
}

// fakeSTS answers AssumeRole with temporary credentials, and configures the SDK
// to use it.
func fakeSTS(t *testing.T, status int) {
	t.Helper()
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") != "AssumeRole" || r.FormValue("RoleArn") != "arn:aws:iam::1:role/berth" {
			t.Errorf("STS got a request for %s of %s", r.FormValue("Action"), r.FormValue("RoleArn"))
		}
		if !strings.Contains(r.Header.Get("Authorization"), "Credential=FROMPROFILE/") {
			t.Errorf("STS got a request with %s, want the profile's key", r.Header.Get("Authorization"))
		}
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		if status != http.StatusOK {
			fmt.Fprint(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform sts:AssumeRole</Message></Error></ErrorResponse>`)
			return
		}
		seconds, err := strconv.Atoi(r.FormValue("DurationSeconds"))
		if err != nil {
			t.Errorf("STS got a request for a session of %q seconds", r.FormValue("DurationSeconds"))
		}
		expires := time.Now().Add(time.Duration(seconds) * time.Second).UTC()
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>`+
			`<AccessKeyId>FROMROLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>TOKEN</SessionToken>`+
			`<Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, expires.Format(time.RFC3339))
	}))
	t.Cleanup(sts.Close)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	file := filepath.Join(t.TempDir(), "config")
	profile := "[profile other]\nregion = eu-west-3\naws_access_key_id = FROMPROFILE\naws_secret_access_key = secret\n" +
		"[profile role]\nregion = eu-west-3\nrole_arn = arn:aws:iam::1:role/berth\nsource_profile = other\n" +
		"[profile short]\nregion = eu-west-3\nrole_arn = arn:aws:iam::1:role/berth\nsource_profile = other\nduration_seconds = 1800\n"
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}

// TestProfileAndRole checks that the profile's key and region and the role's
// credentials are used. Requests and URLs carry the role's token, and URLs
// expire before it.
func TestProfileAndRole(t *testing.T) {
	fakeSTS(t, http.StatusOK)
	var last http.Header
	store := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { last = r.Header.Clone() }))
	defer store.Close()
	cfg := Config{Bucket: "b", Endpoint: store.URL, PathStyle: true, Profile: "other"}
	ask := func(wantKey, wantToken string) *bucket {
		t.Helper()
		b, _ := connectBucket(t, cfg)
		if err := b.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		if got := last.Get("Authorization"); !strings.Contains(got, "Credential="+wantKey+"/") || !strings.Contains(got, "/eu-west-3/s3/") {
			t.Errorf("Delete has Authorization: %s, want the key %s in eu-west-3", got, wantKey)
		}
		if got := last.Get("X-Amz-Security-Token"); got != wantToken {
			t.Errorf("Delete has the session token %q, want %q", got, wantToken)
		}
		return b
	}
	ask("FROMPROFILE", "")
	for _, role := range []struct {
		profile, arn string
		session      time.Duration
	}{
		{"other", "arn:aws:iam::1:role/berth", time.Hour},
		{"role", "", time.Hour},
		{"short", "", 30 * time.Minute},
	} {
		cfg.Profile, cfg.RoleARN = role.profile, role.arn
		b := ask("FROMROLE", "TOKEN")
		signed, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: 24 * time.Hour})
		left := time.Until(signed.Expires) + credentialMargin
		if err != nil || !strings.Contains(signed.URL, "X-Amz-Security-Token=TOKEN") || left > role.session || left < role.session-time.Minute {
			t.Errorf("SignGet() with %+v = %+v, %v, want one with the role's token that expires before it", role, signed, err)
		}
	}
	cfg.Profile, cfg.RoleARN, cfg.Region = "", "", "eu-west-3"
	cfg.AccessKeyID, cfg.SecretAccessKey, cfg.SessionToken = "STATIC", "secret", "STATICTOKEN"
	ask("STATIC", "STATICTOKEN")
}

// TestRoleDenied checks that the error names the role, not the key that was
// refused it.
func TestRoleDenied(t *testing.T) {
	fakeSTS(t, http.StatusForbidden)
	_, err := Open(t.Context(), Config{Bucket: "b", Profile: "other", RoleARN: "arn:aws:iam::1:role/berth"})
	wantNoClaim(t, err, "Open")
	if err == nil || !strings.Contains(err.Error(), "s3.Config.RoleARN") || !strings.Contains(err.Error(), "sts:AssumeRole") {
		t.Errorf("Open() = %v, want an error that names s3.Config.RoleARN and sts:AssumeRole", err)
	}
}

// TestStanding checks that all requests have the signed headers of
// expected_bucket_owner and request_payer. URLs have them as parameters, and so
// need no headers.
func TestStanding(t *testing.T) {
	t.Parallel()
	d, cfg := newDoubleOf(t, emulator.MinIO(t))
	want := map[string]string{"x-amz-expected-bucket-owner": "012345678901", "x-amz-request-payer": "requester"}
	cfg.ExpectedBucketOwner, cfg.RequestPayer = "012345678901", "requester"
	var mu sync.Mutex
	seen := make(map[string]bool)
	d.plays(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("X-Amz-Signature") {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		seen[operation(r)] = true
		for name, value := range want {
			if got := r.Header.Get(name); got != value || !strings.Contains(r.Header.Get("Authorization"), name) {
				t.Errorf("%s has %s: %q, want %q, signed", operation(r), name, got, value)
			}
		}
		return false
	})
	b := openBucket(t, cfg)
	create(t, b, "text")
	for _, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Error(err)
		}
	}
	for _, op := range []string{"PutObject", "DeleteObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "ListObjectsV2"} {
		if !seen[op] {
			t.Errorf("no %s came", op)
		}
	}
	signed, err := b.SignGet(t.Context(), "k", drivers.SignOptions{Expires: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		if !strings.Contains(signed.URL, "&"+name+"="+value) {
			t.Errorf("the URL is %s, want %s=%s in it, in lower case", signed.URL, name, value)
		}
	}
	if status, body := fetch(t, signed.URL); status != http.StatusOK || body != "text" {
		t.Errorf("the URL answers %d %q, want the object", status, body)
	}
}

// fetch requests a URL without any credentials.
func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := new(http.Client).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(p)
}

// TestOtherOwner opens a bucket of versitygw, which compares the owner. Its
// accounts have other numbers.
func TestOtherOwner(t *testing.T) {
	t.Parallel()
	s := emulator.VersityGW(t)
	cfg := configOf(s, s.Bucket(t))
	cfg.ExpectedBucketOwner = "012345678901"
	_, err := Open(t.Context(), cfg)
	wantRefused(t, err, "Open of another account's bucket")
	if err != nil && !strings.Contains(err.Error(), "account 012345678901 (s3.Config.ExpectedBucketOwner)") {
		t.Errorf("Open() = %v, want an error that names s3.Config.ExpectedBucketOwner", err)
	}
}

// TestCAFile has a store with a certificate of a private authority.
func TestCAFile(t *testing.T) {
	t.Parallel()
	store := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	store.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	store.StartTLS()
	t.Cleanup(store.Close)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	ask := func(file string) error {
		cfg := Config{
			Bucket: "b", Endpoint: store.URL, PathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret", CAFile: file, Retries: -1,
		}
		c, err := connect(t.Context(), cfg)
		if err != nil {
			return err
		}
		return c.store.deleteAll(t.Context(), []string{"k"})
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: store.Certificate().Raw})
	if err := ask(write("ca.pem", authority)); err != nil {
		t.Errorf("with the authority's certificate: %v", err)
	}
	err := ask("")
	wantRefused(t, err, "a request without the authority's certificate")
	for name, err := range map[string]error{
		"none": err, "a file of something else": ask(write("key.pem", []byte("no PEM"))), "no file": ask(filepath.Join(dir, "none")),
	} {
		if err == nil || !strings.Contains(err.Error(), "s3.Config.CAFile: ") {
			t.Errorf("%s: %v, want an error that names s3.Config.CAFile", name, err)
		}
	}
}
