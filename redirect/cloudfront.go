package redirect

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha1"   //nolint:gosec // for crypto.SHA1, where the operator asks for it
	_ "crypto/sha256" // for crypto.SHA256
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// cloudFront is a signer for Amazon CloudFront.
//
// A canned policy names exactly this URL and is not sent: CloudFront rebuilds it
// from the URL and Expires. A custom policy is sent, and matches the URL with
// any suffix, so that the URL still works if a proxy or client adds a query
// string. (No data key is a prefix of another key.) Signatures are RSA PKCS #1
// v1.5 or ECDSA in ASN.1 over SHA-1, or over SHA-256 if the URL has
// Hash-Algorithm=SHA256. ECDSA nonces follow RFC 6979, so that a URL is the same
// within a window.
//
// https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-creating-signed-url-canned-policy.html
// https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-creating-signed-url-custom-policy.html
type cloudFront struct {
	keyID  string
	key    crypto.Signer
	hash   crypto.Hash
	custom bool
}

func newCloudFront(bad problems, c CDN) signer {
	s := cloudFront{
		keyID:  c.Keys[0].ID,
		key:    readKeys(bad, c, parseCloudFrontKey),
		hash:   crypto.SHA256,
		custom: choose(bad.field("Form"), c.Form, "canned", "custom") == "custom",
	}
	if choose(bad.field("Hash"), c.Hash, "sha256", "sha1") == "sha1" {
		s.hash = crypto.SHA1
	}
	return s
}

// parseCloudFrontKey parses a private key of a kind that CloudFront supports.
// https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_PublicKey.html
func parseCloudFrontKey(data []byte) (crypto.Signer, error) {
	key, err := parsePrivateKey(data)
	if err != nil {
		return nil, err
	}
	got := fmt.Sprintf("a %T", key)
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() == 2048 {
			return key, nil
		}
		got = fmt.Sprintf("RSA of %d bits", key.N.BitLen())
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
		got = "ECDSA on " + key.Curve.Params().Name
	}
	return nil, errors.New("CloudFront takes RSA of 2048 bits and ECDSA on P-256, and this key is " + got)
}

func (s cloudFront) sign(u unsignedURL) (drivers.Signed, error) {
	resource := u.url
	if s.custom {
		resource += "*"
	}
	expires := strconv.FormatInt(u.expires.Unix(), 10)
	policy := `{"Statement":[{"Resource":"` + resource + `","Condition":{"DateLessThan":{"AWS:EpochTime":` + expires + `}}}]}`

	hash := s.hash.New()
	hash.Write([]byte(policy))
	signature, err := s.key.Sign(nil, hash.Sum(nil), s.hash)
	if err != nil {
		return drivers.Signed{}, err
	}
	query := "?Expires=" + expires
	if s.custom {
		query = "?Policy=" + cloudFrontBase64([]byte(policy))
	}
	query += "&Signature=" + cloudFrontBase64(signature) + "&Key-Pair-Id=" + s.keyID
	if s.hash == crypto.SHA256 {
		query += "&Hash-Algorithm=SHA256"
	}
	return drivers.Signed{URL: u.url + query, Expires: u.expires}, nil
}

// cloudFrontBase64 returns data in base64, with CloudFront's substitutes for
// characters that URLs must escape.
func cloudFrontBase64(data []byte) string {
	return strings.NewReplacer("+", "-", "=", "_", "/", "~").Replace(base64.StdEncoding.EncodeToString(data))
}
