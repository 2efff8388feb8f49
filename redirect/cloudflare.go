package redirect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"time"

	"github.com/berthhq/berth/drivers"
)

// cloudflare is a signer of timed HMAC tokens, which the function
// is_timed_hmac_valid_v0 of Cloudflare's rules language validates without its
// flag 's':
//
//	is_timed_hmac_valid_v0("<key>", http.request.uri, <lifetime>, http.request.timestamp.sec, 8)
//
// where 8 is the length of "?verify=". The token holds the time when it was
// issued. The rule holds its lifetime, and [CDN.Lifetime] must be the same
// number. A rule holds one key, so rotation takes two rules joined by "and not".
//
// https://developers.cloudflare.com/ruleset-engine/rules-language/functions/#hmac-validation
// https://developers.cloudflare.com/waf/custom-rules/use-cases/configure-token-authentication/
type cloudflare struct {
	key      []byte
	param    string
	lifetime time.Duration
}

func newCloudflare(bad problems, c CDN, longest time.Duration) signer {
	if c.Lifetime < longest || c.Lifetime%time.Second != 0 {
		bad.field("Lifetime").addf("%v must be whole seconds, and at least %v, the sum of redirect.Config.Expiry and redirect.Config.Window",
			c.Lifetime, longest)
	}
	return cloudflare{key: readKeys(bad, c, parseText), param: c.param(bad, "verify"), lifetime: c.Lifetime}
}

func (s cloudflare) sign(u unsignedURL) (drivers.Signed, error) {
	issued := strconv.FormatInt(u.issued.Unix(), 10)
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(u.path + issued))
	token := issued + "-" + url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return drivers.Signed{URL: u.url + "?" + s.param + "=" + token, Expires: u.issued.Add(s.lifetime)}, nil
}
