package azure

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// testSignPublicEndpoint signs for the host that clients use for the store.
func testSignPublicEndpoint(t *testing.T, cfg Config) {
	cfg.PublicEndpoint = "https://cdn.example.net/blobs/"
	b := open(t, cfg)
	s, err := b.SignGet(t.Context(), "data/a+b", drivers.SignOptions{Expires: time.Hour})
	if want := "https://cdn.example.net/blobs/" + cfg.Container + "/data/a+b?"; err != nil || !strings.HasPrefix(s.URL, want) {
		t.Errorf("SignGet = %+v, %v, want %s…", s, err, want)
	}
}

// testSignAnyHost fetches a URL by another name of the same server, like CDNs that
// forward a SAS. The URL is valid there, but not for another container.
func testSignAnyHost(t *testing.T, cfg Config) {
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

// testSignUnderPolicy reads by URLs of an account with a SAS expiration policy.
// They have a start, and the time from start to expiry is the one that the README
// documents.
func testSignUnderPolicy(t *testing.T, cfg Config) {
	for name, cfg := range map[string]Config{
		"shared key": cfg,
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

// byIdentity returns cfg with an identity as the credential.
func byIdentity(cfg Config) Config {
	cfg.SharedKey, cfg.identity = "", token{}
	return cfg
}

// TestSignNothing checks that SignGet reports which field to change if the
// credential cannot sign.
func TestSignNothing(t *testing.T) {
	b := fake(t, nil)
	s, err := b.SignGet(t.Context(), "k", drivers.SignOptions{Expires: time.Hour})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "azure.Config.SAS") {
		t.Errorf("SignGet with a SAS = %+v, %v, want %v with azure.Config.SAS in it", s, err, errors.ErrUnsupported)
	}
	cfg := fakeConfig(nil)
	cfg.SAS, cfg.identity, cfg.Endpoint = "", token{}, "https://blobs.example.com"
	if b, err = newBucket(cfg); err != nil {
		t.Fatal(err)
	}
	s, err = b.SignGet(t.Context(), "k", drivers.SignOptions{Expires: time.Hour})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "azure.Config.Endpoint") {
		t.Errorf("SignGet for another host = %+v, %v, want %v with azure.Config.Endpoint in it", s, err, errors.ErrUnsupported)
	}
}

// containerSAS returns a SAS for cfg's container with the permissions that Config
// requires.
func containerSAS(t *testing.T, cfg Config) string {
	t.Helper()
	return expiringSAS(t, cfg, time.Now().Add(time.Hour))
}

// expiringSAS returns a containerSAS that is valid until expires.
func expiringSAS(t *testing.T, cfg Config, expires time.Time) string {
	t.Helper()
	return signSAS(t, cfg, sas.ContainerPermissions{Read: true, Add: true, Create: true, Write: true, Delete: true, List: true}, expires)
}

// readSAS returns a SAS that cannot write.
func readSAS(t *testing.T, cfg Config) string {
	t.Helper()
	return signSAS(t, cfg, sas.ContainerPermissions{Read: true, List: true}, time.Now().Add(time.Hour))
}

// signSAS returns a SAS for cfg's container with these permissions.
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
