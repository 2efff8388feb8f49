package redirect

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the CDN takes no other; HMAC does not depend on collisions
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/berthhq/berth/drivers"
)

// cloudCDN is a signer for Google Cloud CDN: HMAC-SHA1 with a key of 128 bits.
//
// In the "url" form the signature covers the whole URL. In the "prefix" form it
// covers a prefix, here the URL up to its query, so that the URL still works if
// a proxy or client adds a query string.
//
// https://cloud.google.com/cdn/docs/using-signed-urls
type cloudCDN struct {
	keyName string
	key     []byte
	prefix  bool
}

func newCloudCDN(bad problems, c CDN) signer {
	return cloudCDN{
		keyName: c.Keys[0].ID,
		key:     readKeys(bad, c, parseCloudCDNKey),
		prefix:  choose(bad.field("Form"), c.Form, "url", "prefix") == "prefix",
	}
}

func parseCloudCDNKey(data []byte) ([]byte, error) {
	key, err := parseBase64(data)
	if err == nil && len(key) != 16 {
		err = fmt.Errorf("want base64 of 16 bytes for Cloud CDN, got %d bytes", len(key))
	}
	return key, err
}

func (s cloudCDN) sign(u unsignedURL) (drivers.Signed, error) {
	return signGoogle(u, s.keyName, s.prefix, base64.URLEncoding, func(value string) []byte {
		mac := hmac.New(sha1.New, s.key)
		mac.Write([]byte(value))
		return mac.Sum(nil)
	}), nil
}

// signGoogle returns a URL in the form of both of Google's CDNs. The signature
// covers the URL up to the signature, or in the prefix form only its query.
func signGoogle(u unsignedURL, keyName string, prefix bool, encoding *base64.Encoding, sign func(string) []byte) drivers.Signed {
	query := "Expires=" + strconv.FormatInt(u.expires.Unix(), 10) + "&KeyName=" + keyName
	if prefix {
		query = "URLPrefix=" + encoding.EncodeToString([]byte(u.url)) + "&" + query
	}
	unsigned := u.url + "?" + query
	value := unsigned
	if prefix {
		value = query
	}
	return drivers.Signed{URL: unsigned + "&Signature=" + encoding.EncodeToString(sign(value)), Expires: u.expires}
}
