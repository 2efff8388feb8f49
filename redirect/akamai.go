package redirect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/berthhq/berth/drivers"
)

// akamai is a signer of tokens of Akamai's Auth Token 2.0 (EdgeAuth) for a query
// string: HMAC-SHA256 over the fields, with a key in hexadecimal. The access
// list is this one path. Unlike the form for a URL, it does not depend on how
// the property escapes token inputs or treats query strings.
//
// https://techdocs.akamai.com/property-mgr/docs/auth-token-2-0-ver
// https://github.com/akamai/EdgeAuth-Token-Python
type akamai struct {
	key   []byte
	param string
}

func newAkamai(bad problems, c CDN) signer {
	return akamai{key: readKeys(bad, c, parseHex), param: c.param(bad, "__token__")}
}

func (s akamai) sign(u unsignedURL) (drivers.Signed, error) {
	fields := "exp=" + strconv.FormatInt(u.expires.Unix(), 10) + "~acl=" + u.path
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(fields))
	token := fields + "~hmac=" + hex.EncodeToString(mac.Sum(nil))
	return drivers.Signed{URL: u.url + "?" + s.param + "=" + token, Expires: u.expires}, nil
}
