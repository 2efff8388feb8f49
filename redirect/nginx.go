package redirect

import (
	"crypto/md5" //nolint:gosec // the module takes no other
	"encoding/base64"
	"strconv"

	"github.com/berthhq/berth/drivers"
)

// nginx is a signer for nginx's secure_link module with this configuration:
//
//	secure_link $arg_md5,$arg_expires;
//	secure_link_md5 "$secure_link_expires$uri <key>";
//
// The module uses MD5 with the secret at the end. MD5 is broken for collisions,
// but an attacker could use a collision only by choosing the path, and this
// service chooses it.
//
// https://nginx.org/en/docs/http/ngx_http_secure_link_module.html
type nginx struct {
	key []byte
}

func newNginx(bad problems, c CDN) signer {
	return nginx{key: readKeys(bad, c, parseText)}
}

func (s nginx) sign(u unsignedURL) (drivers.Signed, error) {
	expires := strconv.FormatInt(u.expires.Unix(), 10)
	sum := md5.Sum([]byte(expires + u.path + " " + string(s.key))) //nolint:gosec // the module takes no other
	query := "?md5=" + base64.RawURLEncoding.EncodeToString(sum[:]) + "&expires=" + expires
	return drivers.Signed{URL: u.url + query, Expires: u.expires}, nil
}
