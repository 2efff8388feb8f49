package redirect

import (
	"errors"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// frontDoor passes the SAS that the store signed through Azure Front Door: the
// query is the store's, the rest the CDN's. A SAS signs the account, container
// and blob but no host, so the store accepts it from the origin side. Front
// Door must forward the query string, and it checks no signature of its own:
// what it has cached under a key without the query it would give to anyone, so
// its cache key must include the query string.
//
// https://learn.microsoft.com/rest/api/storageservices/create-service-sas
// https://learn.microsoft.com/azure/frontdoor/front-door-caching#query-string-behavior
type frontDoor struct{}

func (frontDoor) sign(l link) (drivers.Signed, error) {
	signed, err := l.presign()
	if err != nil {
		return drivers.Signed{}, err
	}
	_, sas, ok := strings.Cut(signed.URL, "?")
	if !ok || sas == "" {
		return drivers.Signed{}, errors.New("the store's URL has no signature to pass on")
	}
	return drivers.Signed{URL: l.url + "?" + sas, Expires: signed.Expires}, nil
}
