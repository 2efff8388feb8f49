package redirect

import (
	"errors"
	"net/url"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// frontDoor is a signer for Azure Front Door. Its URLs have the query of a URL
// that the store signed, a SAS, after the CDN's host and path. A SAS covers the
// account, container and blob but no host, so the store accepts it from Front
// Door. Front Door must forward the query string. It checks no signature, and
// would serve an object that it cached under a key without the query to any
// client. So its cache key must include the query string. The signatures of
// Amazon and Google cover the host, and sign refuses them.
//
// https://learn.microsoft.com/rest/api/storageservices/create-service-sas
// https://learn.microsoft.com/azure/frontdoor/front-door-caching#query-string-behavior
type frontDoor struct{}

func (frontDoor) sign(u unsignedURL) (drivers.Signed, error) {
	signed, err := u.presign()
	if err != nil {
		return drivers.Signed{}, err
	}
	_, sas, _ := strings.Cut(signed.URL, "?")
	switch q, err := url.ParseQuery(sas); {
	case err != nil || sas == "":
		return drivers.Signed{}, errors.New("the store's URL has no signature to pass on")
	case q.Has("X-Amz-Signature") || q.Has("X-Goog-Signature"):
		return drivers.Signed{}, errors.New("the store's signature is good for its own host only: this kind is for Azure Blob Storage")
	}
	return drivers.Signed{URL: u.url + "?" + sas, Expires: signed.Expires}, nil
}
