package redirect

import (
	"errors"
	"net/url"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// frontDoor passes the SAS that the store signed through Azure Front Door: the
// query is the store's, the rest the CDN's. A SAS signs the account, container
// and blob but no host, so the store accepts it from the origin side. Front
// Door must forward the query string, and it checks no signature of its own:
// what it has cached under a key without the query it would give to anyone, so
// its cache key must include the query string. Amazon's and Google's signatures
// do sign the host, and are refused.
//
// https://learn.microsoft.com/rest/api/storageservices/create-service-sas
// https://learn.microsoft.com/azure/frontdoor/front-door-caching#query-string-behavior
type frontDoor struct{}

func (frontDoor) sign(l link) (drivers.Signed, error) {
	signed, err := l.presign()
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
	return drivers.Signed{URL: l.url + "?" + sas, Expires: signed.Expires}, nil
}
