package system

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestServeRefusesUnsafeStores starts berth on stores that ignore a condition, because
// a proxy removes it from requests. berth serves from none of them, and its error
// gives the reason.
func TestServeRefusesUnsafeStores(t *testing.T) {
	t.Parallel()
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		s := emulator.VersityGW(t)
		env := s3Env(t, s)
		for header, reason := range map[string]string{
			"If-None-Match": "this store ignores If-None-Match: * on PutObject (create-only): two uploads could overwrite each other",
			"If-Match":      "this store ignores If-Match on PutObject (compare-and-swap): a push and the collector could overwrite each other",
		} {
			endpoint := startProxy(t, s.Endpoint, func(r *http.Request) {
				if r.Method == http.MethodPut && r.Header.Get(header) != "" {
					r.Header.Del(header)
					signAgain(t, s, r)
				}
			})
			wantRefused(t, append(env, "BERTH_STORAGE_S3_ENDPOINT="+endpoint), "storage.s3.endpoint", reason)
		}
	})
	t.Run("GCS", func(t *testing.T) {
		t.Parallel()
		s := emulator.FakeGCS(t)
		env := gcsEnv(t, s)
		for generation, reason := range map[bool]string{
			false: "ignores ifGenerationMatch=0 on writes (create-only): two uploads could overwrite each other",
			true:  "ignores ifGenerationMatch on writes (compare-and-swap): a push and the collector could overwrite each other",
		} {
			endpoint := startProxy(t, s.Endpoint, func(r *http.Request) {
				q := r.URL.Query()
				if r.Method == http.MethodPost && generation == (q.Get("ifGenerationMatch") != "0") {
					q.Del("ifGenerationMatch")
					r.URL.RawQuery = q.Encode()
				}
			})
			wantRefused(t, append(env, "BERTH_STORAGE_GCS_ENDPOINT="+endpoint), "storage.gcs.endpoint", reason)
		}
	})
	t.Run("Azure", func(t *testing.T) {
		t.Parallel()
		s := emulator.Azurite(t)
		name := s.Container(t)
		env := append(cleanEnv(), "BERTH_STORAGE_DRIVER=azure", "BERTH_STORAGE_AZURE_ACCOUNT="+s.Account,
			"BERTH_STORAGE_AZURE_CONTAINER="+name, "BERTH_STORAGE_AZURE_SAS="+containerSAS(t, s, name)) // a SAS does not sign headers
		for header, reason := range map[string]string{
			"If-None-Match": "this store ignores If-None-Match: * on Put Blob (create-only): two uploads could overwrite each other",
			"If-Match":      "this store ignores If-Match on Put Blob (compare-and-swap): a push and the collector could overwrite each other",
		} {
			endpoint := startProxy(t, s.Endpoint, func(r *http.Request) {
				if r.Method == http.MethodPut {
					r.Header.Del(header)
				}
			})
			wantRefused(t, append(env, "BERTH_STORAGE_AZURE_ENDPOINT="+endpoint), "storage.azure.endpoint", reason)
		}
	})
}

// wantRefused runs `berth serve` and requires that it exits with an error that
// contains the setting and the reason.
func wantRefused(t *testing.T, env []string, setting, reason string) {
	t.Helper()
	p, err := start(t.TempDir(), env)
	if err == nil {
		p.kill()
		t.Errorf("berth serve = nil, want an error that contains %q", reason)
		return
	}
	for _, want := range []string{"exit status 1", setting, reason, "berth does not serve from it"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("berth serve = %v, want an error that contains %q", err, want)
		}
	}
}

// TestServeRefusesUnsafeRedirects starts berth on a store that signs URLs which
// clients must not be redirected to.
func TestServeRefusesUnsafeRedirects(t *testing.T) {
	t.Parallel()
	env := append(s3Env(t, emulator.VersityGW(t)), "BERTH_PUBLIC_URL=https://registry.example.com")
	for _, c := range []struct{ setting, reason string }{
		{"", "redirect: presigned URLs: http://127.0.0.1:"}, // the store's own endpoint
		{"BERTH_STORAGE_S3_PUBLIC_ENDPOINT=http://s3.example.com", "?REDACTED is plain http, and the service is https"},
		{"BERTH_STORAGE_S3_PUBLIC_ENDPOINT=https://s3.registry.example.com", "presigned URLs: host s3.registry.example.com is a subdomain of the service's registry.example.com"},
		{"BERTH_STORAGE_S3_PUBLIC_ENDPOINT=https://Registry.Example.com:9000", "presigned URLs: host registry.example.com is the service's own"},
		{"BERTH_REDIRECT_EXPIRY=168h", "redirect.expiry: 168h0m0s and a window of 5m0s make 168h5m0s, and URLs that the store signs"},
	} {
		env := slices.Concat(env, []string{c.setting})
		p, err := start(t.TempDir(), env)
		if err == nil {
			p.kill()
			t.Errorf("berth serve with %q = nil, want an error that contains %q", c.setting, c.reason)
			continue
		}
		if !strings.Contains(err.Error(), c.reason) || strings.Contains(err.Error(), "Signature") {
			t.Errorf("berth serve with %q = %v, want an error that contains %q and no signature", c.setting, err, c.reason)
		}
		explain := exec.Command(filepath.Join(buildDir, "berth"), "redirect", "explain")
		explain.Env = env
		if out, err := explain.CombinedOutput(); err == nil || !strings.Contains(string(out), c.reason) || strings.Contains(string(out), "Signature") {
			t.Errorf("berth redirect explain with %q = %v, want output that contains %q and no signature:\n%s", c.setting, err, c.reason, out)
		}
	}
}

// startProxy starts a proxy to a store that changes requests, and returns its URL.
func startProxy(t *testing.T, endpoint string, change func(*http.Request)) string {
	t.Helper()
	proxy, path := proxyTo(t, endpoint, change)
	p := httptest.NewServer(proxy)
	t.Cleanup(p.Close)
	return p.URL + path
}

// signAgain signs a request again after a header was removed.
func signAgain(t *testing.T, s *emulator.S3, r *http.Request) {
	r.Header.Del("Authorization")
	credentials := aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey}
	err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).
		SignHTTP(context.WithoutCancel(r.Context()), credentials, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", s.Region, time.Now())
	if err != nil {
		t.Error(err)
	}
}

// containerSAS returns the query of a SAS with all permissions for the blobs of a
// container.
func containerSAS(t *testing.T, s *emulator.Azure, name string) string {
	t.Helper()
	key, err := container.NewSharedKeyCredential(s.Account, s.SharedKey)
	if err != nil {
		t.Fatal(err)
	}
	q, err := sas.BlobSignatureValues{
		ExpiryTime: time.Now().Add(time.Hour), ContainerName: name,
		Permissions: (&sas.ContainerPermissions{Read: true, Add: true, Create: true, Write: true, Delete: true, List: true}).String(),
	}.SignWithSharedKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return q.Encode()
}
