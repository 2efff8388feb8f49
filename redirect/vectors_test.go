package redirect

import (
	"os"
	"strings"
	"testing"
	"time"

	cloudfront "github.com/aws/aws-sdk-go-v2/feature/cloudfront/sign"
)

func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		name, url, _ := strings.Cut(strings.TrimSpace(line), " ")
		want[name] = url
	}
	for _, c := range signerCases() {
		t.Run(c.name, func(t *testing.T) {
			got := signTest(t, c.cdn, testLife())
			if !strings.HasPrefix(c.name, "cloudfront-ec-") {
				if got != want[c.name] {
					t.Errorf("got  %s\nwant %s", got, want[c.name])
				}
				return
			}
			// ECDSA has many signatures of the same data: the verifier must accept
			// openssl's and ours, and the rest of the URL must be equal.
			now := testLife().issued
			for _, u := range []string{got, want[c.name]} {
				if err := c.verify(u, now, c.known(t, c.cdn.Keys...)); err != nil {
					t.Errorf("%s: %v", u, err)
				}
			}
			if got, want := withoutSignature(got), withoutSignature(want[c.name]); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	if len(want) != len(signerCases()) {
		t.Errorf("%d vectors for %d cases", len(want), len(signerCases()))
	}
}

func withoutSignature(u string) string {
	before, after, _ := strings.Cut(u, "Signature=")
	_, after, _ = strings.Cut(after, "&")
	return before + after
}

// TestVendorExamples signs the examples on the vendors' pages and in their samples.
func TestVendorExamples(t *testing.T) {
	at := func(issued, expires int64) life { return life{time.Unix(issued, 0), time.Unix(expires, 0)} }
	googleKey := []byte{0x9d, 0x9b, 0x51, 0xa2, 0x17, 0x4d, 0x17, 0xd9, 0xb7, 0x70, 0xa3, 0x36, 0xe0, 0x87, 0x0a, 0xe3}
	cloudCDNURL := cloudCDN{keyName: "my-key", key: googleKey}
	cloudCDNPrefix := cloudCDN{keyName: "my-key", key: googleKey, prefix: true}
	cloudflareRule := cloudflare{key: []byte("mysecrettoken"), param: "verify", lifetime: 3 * time.Hour}

	for _, test := range []struct {
		source   string
		signer   signer
		unsigned unsignedURL
		want     string
	}{
		{ // https://github.com/GoogleCloudPlatform/golang-samples/tree/main/cdn/sign-url
			"golang-samples", cloudCDNURL, unsignedURL{url: "http://35.186.234.33/index.html", life: at(0, 1558131350)},
			"http://35.186.234.33/index.html?Expires=1558131350&KeyName=my-key&Signature=fm6JZSmKNsB5sys8VGr-JE4LiiE=",
		},
		{ // https://github.com/GoogleCloudPlatform/python-docs-samples/tree/main/cdn
			"python-docs-samples", cloudCDNURL, unsignedURL{url: "http://www.example.com/", life: at(0, 1549751401)},
			"http://www.example.com/?Expires=1549751401&KeyName=my-key&Signature=OqDUFfHpN5Vxga6r80bhsgxKves=",
		},
		{
			"golang-samples, prefix", cloudCDNPrefix, unsignedURL{url: "https://media.example.com/segments/", life: at(0, 1558131350)},
			"https://media.example.com/segments/?URLPrefix=aHR0cHM6Ly9tZWRpYS5leGFtcGxlLmNvbS9zZWdtZW50cy8=" +
				"&Expires=1558131350&KeyName=my-key&Signature=HWE5tBTZgnYVoZzVLG7BtRnOsgk=",
		},
		{ // "Protect an entire URI path prefix", where the separator is "?"
			"configure-token-authentication", cloudflareRule,
			unsignedURL{url: "https://downloads.example.com/case-studies/12345678-90ab-4cde-f012-3456789abcde/",
				path: "/case-studies/12345678-90ab-4cde-f012-3456789abcde/", life: at(1755877101, 0)},
			"https://downloads.example.com/case-studies/12345678-90ab-4cde-f012-3456789abcde/" +
				"?verify=1755877101-5WOroVcDINdl2%2BQZxZFHJcJ6l%2Fep4HGIrX3DtSXzWO0%3D",
		},
		{
			"configure-token-authentication", cloudflareRule,
			unsignedURL{url: "/", path: "/case-studies/768bf477-22d5-4545-857d-b155510119ff/", life: at(1755878057, 0)},
			"/?verify=1755878057-jeMS5S1F3MIgxvL61UmiX4vODiWtuLfcPV6q%2B0Y3Rig%3D",
		},
		{ // the page signs the client's address too, right after the path
			"ngx_http_secure_link_module", nginx{key: []byte("secret")},
			unsignedURL{url: "/s/link", path: "/s/link127.0.0.1", life: at(0, 2147483647)},
			"/s/link?md5=_e4Nc3iduzkWRm01TBBNYw&expires=2147483647",
		},
	} {
		got, err := test.signer.sign(test.unsigned)
		if err != nil || got.URL != test.want {
			t.Errorf("%s: got %s, %v\nwant %s", test.source, got.URL, err, test.want)
		}
	}
}

// TestCloudFrontSDK compares with the signer of the AWS SDK, which supports only
// SHA-1 and draws random ECDSA nonces.
func TestCloudFrontSDK(t *testing.T) {
	expires := testLife().expires
	for _, c := range signerCases() {
		if c.cdn.Kind != "cloudfront" || c.cdn.Hash != "sha1" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			data, err := os.ReadFile(c.cdn.Keys[0].File)
			if err != nil {
				t.Fatal(err)
			}
			key, err := parsePrivateKey(data)
			if err != nil {
				t.Fatal(err)
			}
			sdk := cloudfront.NewURLSigner(c.cdn.Keys[0].ID, key)
			want, err := sdk.Sign(testURL, expires)
			if c.cdn.Form == "custom" {
				want, err = sdk.SignWithPolicy(testURL, cloudfront.NewCannedPolicy(testURL+"*", expires))
			}
			if err != nil {
				t.Fatal(err)
			}
			got := signTest(t, c.cdn, testLife())
			if strings.Contains(c.name, "-ec-") {
				if err := c.verify(want, testLife().issued, c.known(t, c.cdn.Keys...)); err != nil {
					t.Errorf("the SDK's URL: %v", err)
				}
				got, want = withoutSignature(got), withoutSignature(want)
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}
