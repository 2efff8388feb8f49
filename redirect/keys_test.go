package redirect

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// badKey is a key that New refuses, and the start of the error after the path of the
// key.
type badKey struct {
	kind string
	key  Key
	want string
}

// keyFiles writes files with keys to a directory.
type keyFiles struct {
	t   *testing.T
	dir string
}

func (f keyFiles) write(name, content string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

func (f keyFiles) pem(block string, der []byte, err error) string {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}))
}

func (f keyFiles) pkcs8(key any, err error) string {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return f.pem("PRIVATE KEY", der, err)
}

// badSecrets returns keys of the kinds that sign with a shared secret.
func badSecrets(f keyFiles) []badKey {
	dir := f.dir
	return []badKey{
		{"nginx", Key{}, ": set exactly one of Value, File and Env"},
		{"nginx", Key{Value: "secret", Env: "BERTH_TEST_KEY"}, ": set exactly one of Value, File and Env"},
		{"nginx", Key{Value: " "}, ".Value: is empty or not set"},
		{"nginx", Key{Env: "BERTH_TEST_UNSET"}, ".Env: BERTH_TEST_UNSET: is empty or not set"},
		{"nginx", Key{Env: "BERTH_TEST_EMPTY"}, ".Env: BERTH_TEST_EMPTY: is empty or not set"},
		{"nginx", Key{File: dir + "/absent"}, ".File: " + dir + "/absent: no such file or directory"},
		{"nginx", Key{File: f.write("empty", "\n")}, ".File: " + dir + "/empty: is empty or not set"},
		{"nginx", Key{File: f.write("utf16", "\xff\xfes\x00e\x00")}, ".File: " + dir + "/utf16: is not one line of text in UTF-8"},
		{"nginx", Key{File: f.write("utf16le", "s\x00e\x00")}, ".File: " + dir + "/utf16le: is not one line of text in UTF-8"},
		{"nginx", Key{File: f.write("lines", "secret\r\nsecret\r\n")}, ".File: " + dir + "/lines: is not one line of text in UTF-8"},
		{"nginx", Key{File: f.write("bom", "\ufeff\r\n")}, ".File: " + dir + "/bom: is empty or not set"},
		{"nginx", Key{File: dir}, ".File: " + dir + ": is a directory"},
		{"akamai", Key{Value: "secret"}, ".Value: is not an even number of hexadecimal digits"},
		{"akamai", Key{Value: "abc"}, ".Value: is not an even number of hexadecimal digits"},
		{"cloudcdn", Key{Value: "secret!"}, ".Value: is not base64"},
		{"cloudcdn", Key{Env: "BERTH_TEST_KEY"}, ".Env: BERTH_TEST_KEY: want base64 of 16 bytes for Cloud CDN, got 6 bytes"},
		{"cloudcdn", Key{Value: "c2VjcmV0c2VjcmV0c2VjcmV0"}, ".Value: want base64 of 16 bytes for Cloud CDN, got 18 bytes"},
	}
}

// badPrivateKeys returns keys of the kinds that sign with a private key.
func badPrivateKeys(f keyFiles) []badKey {
	dir := f.dir
	rsa3072, rsaErr := rsa.GenerateKey(rand.Reader, 3072)
	p384, p384Err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	x25519, x25519Err := ecdh.X25519().GenerateKey(rand.Reader)
	ed25519PEM, err := os.ReadFile("testdata/ed25519.pem")
	if err != nil {
		f.t.Fatal(err)
	}
	return []badKey{
		{"mediacdn", Key{Value: "secret!"}, ".Value: is neither PEM nor base64"},
		{"mediacdn", Key{Value: "c2VjcmV0"}, ".Value: want an Ed25519 key of 32 or 64 bytes for Media CDN, got 6 bytes"},
		{"mediacdn", Key{Value: strings.Repeat("c2VjcmV0", 10) + "c2VjcmU"}, ".Value: want an Ed25519 key of 32 or 64 bytes for Media CDN, got 65 bytes"},
		{"mediacdn", Key{Value: strings.Repeat("A", 86)}, ".Value: the public half of the key does not match the private half"},
		{"mediacdn", Key{File: "testdata/rsa.pem"}, ".File: testdata/rsa.pem: want an Ed25519 key for Media CDN, got a *rsa.PrivateKey"},
		{"cloudfront", Key{File: f.write("text", "secret")}, ".File: " + dir + "/text: is not a PEM private key"},
		{"cloudfront", Key{File: f.write("cert", f.pem("CERTIFICATE", nil, nil))}, ".File: " + dir + "/cert: is a PEM CERTIFICATE, not a private key"},
		{"cloudfront", Key{File: f.write("locked", f.pem("ENCRYPTED PRIVATE KEY", nil, nil))},
			".File: " + dir + "/locked: the private key is encrypted; give it without a passphrase"},
		{"cloudfront", Key{File: f.write("locked1", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")},
			".File: " + dir + "/locked1: the private key is encrypted; give it without a passphrase"},
		{"cloudfront", Key{File: f.write("ssh", f.pem("OPENSSH PRIVATE KEY", nil, nil))},
			".File: " + dir + "/ssh: is a private key in OpenSSH format; use a PKCS #8 key"},
		{"mediacdn", Key{File: f.write("bag", "Bag Attributes\n"+f.pem("CERTIFICATE", nil, nil))}, ".File: " + dir + "/bag: is a PEM CERTIFICATE, not a private key"},
		{"cloudfront", Key{File: f.write("broken", f.pem("EC PRIVATE KEY", []byte("x"), nil))}, ".File: " + dir + "/broken: PEM EC PRIVATE KEY: "},
		{"cloudfront", Key{File: f.write("rsa3072", f.pkcs8(rsa3072, rsaErr))},
			".File: " + dir + "/rsa3072: CloudFront takes RSA of 2048 bits and ECDSA on P-256, and this key is RSA of 3072 bits"},
		{"cloudfront", Key{File: f.write("p384", f.pkcs8(p384, p384Err))},
			".File: " + dir + "/p384: CloudFront takes RSA of 2048 bits and ECDSA on P-256, and this key is ECDSA on P-384"},
		{"cloudfront", Key{Value: string(ed25519PEM)},
			".Value: CloudFront takes RSA of 2048 bits and ECDSA on P-256, and this key is a ed25519.PrivateKey"},
		{"cloudfront", Key{File: f.write("x25519", f.pkcs8(x25519, x25519Err))},
			".File: " + dir + "/x25519: is a private key of type *ecdh.PrivateKey, which cannot sign"},
	}
}

func TestBadKeys(t *testing.T) {
	t.Setenv("BERTH_TEST_KEY", "c2VjcmV0")
	t.Setenv("BERTH_TEST_EMPTY", " \n")
	f := keyFiles{t, t.TempDir()}
	for _, test := range append(badSecrets(f), badPrivateKeys(f)...) {
		good := map[string]Key{
			"nginx":      {Value: "k"},
			"akamai":     {Value: "aa"},
			"cloudcdn":   {Value: "nZtRohdNF9m3cKM24IcK4w=="},
			"mediacdn":   {File: "testdata/ed25519.pem"},
			"cloudfront": {File: "testdata/rsa.pem"},
		}[test.kind]
		if test.kind != "nginx" && test.kind != "akamai" {
			good.ID, test.key.ID = "a", "b"
		}
		// The bad key is second. It does not sign, but New finds it anyway.
		_, err := New(Config{CDN: map[string]CDN{"edge": {Kind: test.kind, BaseURL: testBase, Keys: []Key{good, test.key}}}})
		if want := `redirect.Config.CDN["edge"].Keys[1]` + test.want; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s with %v: %v, want %s", test.kind, test.key, err, want)
		}
		if err != nil && strings.Contains(strings.TrimPrefix(err.Error(), f.dir), "secret") {
			t.Errorf("%v shows the key", err)
		}
	}
}

// TestKeySources reads a key from each source, and in each of its encodings.
func TestKeySources(t *testing.T) {
	data, err := os.ReadFile("testdata/ed25519.pem")
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseEd25519(data)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("BERTH_TEST_KEY", string(data))
	windows := filepath.Join(t.TempDir(), "windows.pem")
	if err := os.WriteFile(windows, []byte("\ufeff"+strings.ReplaceAll(string(data), "\n", "\r\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, k := range []Key{
		{File: windows},
		{Value: "Bag Attributes\n" + string(data)},
		{File: "testdata/ed25519.pem"},
		{Env: "BERTH_TEST_KEY"},
		{Value: string(data)},
		{Value: base64Of(key.Seed(), "+/", "=")},
		{Value: base64Of(key, "-_", "=")},
		{Value: "  " + base64Of(key, "-_", "") + "\n"},
	} {
		k.ID = "my-key"
		got := signTest(t, CDN{Kind: "mediacdn", BaseURL: testBase, Keys: []Key{k}}, testLife())
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%v signs %s, want %s", k, got, want)
		}
	}
}

// TestTextKey checks that what an editor adds around a secret is not part of it.
func TestTextKey(t *testing.T) {
	dir := t.TempDir()
	want := signTest(t, CDN{Kind: "nginx", BaseURL: testBase, Keys: []Key{{Value: "a $ecret, größer"}}}, testLife())
	for i, content := range []string{"a $ecret, größer\n", "a $ecret, größer\r\n", "\ufeffa $ecret, größer\r\n", " a $ecret, größer\t"} {
		file := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := signTest(t, CDN{Kind: "nginx", BaseURL: testBase, Keys: []Key{{File: file}}}, testLife()); got != want {
			t.Errorf("a file with %q signs %s, want %s", content, got, want)
		}
	}
}

func base64Of(key []byte, last, padding string) string {
	s := base64.StdEncoding.EncodeToString(key)
	return strings.NewReplacer("+", last[:1], "/", last[1:], "=", padding).Replace(s)
}
