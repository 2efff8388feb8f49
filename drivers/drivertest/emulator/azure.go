package emulator

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Azure is a server that speaks the protocol of Azure Blob Storage.
type Azure struct {
	Account   string
	SharedKey string

	// Endpoint is the URL of the account's blob service. It has the account in
	// its path, or, with OAuth, in its host name.
	Endpoint string

	// Transport resolves the server's host name and trusts its certificate.
	Transport *http.Transport
}

// Azurite starts Azurite, which keeps everything in memory, with plain HTTP.
func Azurite(t testing.TB) *Azure {
	t.Helper()
	s := newAzure()
	_, addr := start(t, func(_, addr string) command { return azurite(s, addr) })
	s.Endpoint = "http://" + addr + "/" + s.Account
	s.Transport = &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(s.Transport.CloseIdleConnections)
	return s
}

// AzuriteOAuth starts Azurite with TLS, so that it also accepts tokens of
// identities. Azurite checks the claims of tokens, but not their signatures.
func AzuriteOAuth(t testing.TB) *Azure {
	t.Helper()
	s := newAzure()
	host := s.Account + ".blob.localhost"
	roots := x509.NewCertPool()
	_, addr := start(t, func(dir, addr string) command {
		cert, key := makeCertificate(t, dir, roots, host)
		c := azurite(s, addr)
		c.args = append(c.args, "--oauth", "basic", "--cert", cert, "--key", key)
		c.ready, c.roots = "https://"+addr, roots
		return c
	})
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	s.Endpoint = "https://" + net.JoinHostPort(host, port)
	s.Transport = &http.Transport{
		MaxIdleConnsPerHost: 100,
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr) // no resolver has the host's name
		},
	}
	t.Cleanup(s.Transport.CloseIdleConnections)
	return s
}

// newAzure returns a server with a new account key.
func newAzure() *Azure {
	var key [64]byte
	rand.Read(key[:])
	return &Azure{Account: "berthtest", SharedKey: base64.StdEncoding.EncodeToString(key[:])}
}

// azurite returns the command that starts Azurite at an address.
func azurite(s *Azure, addr string) command {
	host, port, _ := strings.Cut(addr, ":")
	return command{
		name: "azurite-blob",
		args: []string{
			"--blobHost", host, "--blobPort", port,
			"--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck",
		},
		env:    []string{"AZURITE_ACCOUNTS=" + s.Account + ":" + s.SharedKey},
		ready:  "http://" + addr,
		status: http.StatusBadRequest, // the request has no account
	}
}

// Container creates an empty container and returns its name.
func (s *Azure) Container(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text())
	u := s.Endpoint + "/" + name + "?restype=container&" + s.sas()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: s.Transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("create container %s: %s", name, resp.Status)
	}
	return name
}

// sas returns the query of a SAS that may create containers for an hour.
// https://learn.microsoft.com/rest/api/storageservices/create-account-sas
func (s *Azure) sas() string {
	const permissions, services, resources, version = "cw", "b", "c", "2019-12-12"
	expiry := time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z")
	key, _ := base64.StdEncoding.DecodeString(s.SharedKey)
	mac := hmac.New(sha256.New, key)
	for _, line := range []string{s.Account, permissions, services, resources, "", expiry, "", "", version} {
		mac.Write([]byte(line + "\n"))
	}
	return url.Values{
		"sp": {permissions}, "ss": {services}, "srt": {resources}, "se": {expiry}, "sv": {version},
		"sig": {base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}.Encode()
}

// makeCertificate creates a certificate for the loopback address and a host
// name, and adds it to roots. It returns the files of the certificate and its
// key.
func makeCertificate(t testing.TB, dir string, roots *x509.CertPool, host string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{host}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(made)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
