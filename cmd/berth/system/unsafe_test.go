package system

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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

// TestServeRefusesUnsafeStores starts berth on stores that ignore a condition,
// because a proxy before them removes it from requests. berth serves none of them,
// and the error gives the reason.
func TestServeRefusesUnsafeStores(t *testing.T) {
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		s := emulator.VersityGW(t)
		env := s3Env(t, s)
		for header, says := range map[string]string{
			"If-None-Match": "this store ignores If-None-Match: * on PutObject (create-only): two uploads could overwrite each other",
			"If-Match":      "this store ignores If-Match on PutObject (compare-and-swap): a push and the collector could overwrite each other",
		} {
			endpoint := proxy(t, s.Endpoint, func(r *http.Request) {
				if r.Method == http.MethodPut && r.Header.Get(header) != "" {
					r.Header.Del(header)
					signAgain(t, s, r)
				}
			})
			wantRefused(t, append(env, "BERTH_STORAGE_S3_ENDPOINT="+endpoint), "storage.s3.endpoint", says)
		}
	})
	t.Run("GCS", func(t *testing.T) {
		t.Parallel()
		s := emulator.FakeGCS(t)
		env := gcsEnv(t, s)
		for generation, says := range map[bool]string{
			false: "ignores ifGenerationMatch=0 on writes (create-only): two uploads could overwrite each other",
			true:  "ignores ifGenerationMatch on writes (compare-and-swap): a push and the collector could overwrite each other",
		} {
			endpoint := proxy(t, s.Endpoint, func(r *http.Request) {
				q := r.URL.Query()
				if r.Method == http.MethodPost && generation == (q.Get("ifGenerationMatch") != "0") {
					q.Del("ifGenerationMatch")
					r.URL.RawQuery = q.Encode()
				}
			})
			wantRefused(t, append(env, "BERTH_STORAGE_GCS_ENDPOINT="+endpoint), "storage.gcs.endpoint", says)
		}
	})
	t.Run("Azure", func(t *testing.T) {
		t.Parallel()
		s := emulator.Azurite(t)
		name := s.Container(t)
		env := append(cleanEnv(), "BERTH_STORAGE_DRIVER=azure", "BERTH_STORAGE_AZURE_ACCOUNT="+s.Account,
			"BERTH_STORAGE_AZURE_CONTAINER="+name, "BERTH_STORAGE_AZURE_SAS="+containerSAS(t, s, name)) // headers are not signed with it
		for header, says := range map[string]string{
			"If-None-Match": "this store ignores If-None-Match: * on Put Blob (create-only): two uploads could overwrite each other",
			"If-Match":      "this store ignores If-Match on Put Blob (compare-and-swap): a push and the collector could overwrite each other",
		} {
			endpoint := proxy(t, s.Endpoint, func(r *http.Request) {
				if r.Method == http.MethodPut {
					r.Header.Del(header)
				}
			})
			wantRefused(t, append(env, "BERTH_STORAGE_AZURE_ENDPOINT="+endpoint), "storage.azure.endpoint", says)
		}
	})
}

// wantRefused wants `berth serve` to end with an error that names the setting
// and contains this text.
func wantRefused(t *testing.T, env []string, setting, says string) {
	t.Helper()
	p, err := start(t.TempDir(), env)
	if err == nil {
		p.kill()
		t.Errorf("berth serve serves, want an error that says %q", says)
		return
	}
	for _, want := range []string{"exit status 1", setting, says, "berth does not serve from it"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to say %q", err, want)
		}
	}
}

// TestServeRefusesUnsafeRedirects starts berth on a store to which clients can't
// be sent with what it signs, as the store's URLs alone show.
func TestServeRefusesUnsafeRedirects(t *testing.T) {
	t.Parallel()
	env := append(s3Env(t, emulator.VersityGW(t)), "BERTH_PUBLIC_URL=https://registry.example.com")
	for _, c := range []struct{ setting, says string }{
		{"", "redirect: presigned URLs: http://127.0.0.1:"}, // that of the store
		{"BERTH_STORAGE_S3_PUBLIC_ENDPOINT=http://s3.example.com", "?REDACTED is plain http, and the service is https"},
		{"BERTH_STORAGE_S3_PUBLIC_ENDPOINT=https://s3.registry.example.com", "presigned URLs: host s3.registry.example.com is a subdomain of the service's registry.example.com"},
		{"BERTH_STORAGE_S3_PUBLIC_ENDPOINT=https://Registry.Example.com:9000", "presigned URLs: host registry.example.com is the service's own"},
		{"BERTH_REDIRECT_EXPIRY=168h", "redirect.expiry: 168h0m0s and a window of 5m0s make 168h5m0s, and URLs that the store signs"},
	} {
		env := slices.Concat(env, []string{c.setting})
		p, err := start(t.TempDir(), env)
		if err == nil {
			p.kill()
			t.Errorf("berth serve serves with %q, want an error that says %q", c.setting, c.says)
			continue
		}
		if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "Signature") {
			t.Errorf("berth serve with %q: %v, want it to say %q, without a signature", c.setting, err, c.says)
		}
		explain := exec.Command(filepath.Join(buildDir, "berth"), "redirect", "explain")
		explain.Env = env
		if out, err := explain.CombinedOutput(); err == nil || !strings.Contains(string(out), c.says) || strings.Contains(string(out), "Signature") {
			t.Errorf("berth redirect explain with %q: %v, want it to say %q, without a signature:\n%s", c.setting, err, c.says, out)
		}
	}
}

// proxy changes the requests to a store on their way.
func proxy(t *testing.T, endpoint string, change func(*http.Request)) string {
	t.Helper()
	through, path := wayTo(t, endpoint, change)
	p := httptest.NewServer(through)
	t.Cleanup(p.Close)
	return p.URL + path
}

// wayTo hands requests on to a store, changed if there is a change. Its clients
// add the path to where they find it.
func wayTo(t *testing.T, endpoint string, change func(*http.Request)) (through http.Handler, path string) {
	t.Helper()
	upstream, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Transport: ownTransport(), Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = upstream.Scheme, upstream.Host, r.In.Host
		if change != nil {
			change(r.Out)
		}
	}}, upstream.Path
}

// signAgain signs a request of which a header was taken out.
func signAgain(t *testing.T, s *emulator.S3, r *http.Request) {
	r.Header.Del("Authorization")
	credentials := aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey}
	err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).
		SignHTTP(context.WithoutCancel(r.Context()), credentials, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", s.Region, time.Now())
	if err != nil {
		t.Error(err)
	}
}

// containerSAS is the query of a SAS that may do all with the container's blobs.
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
