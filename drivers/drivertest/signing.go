package drivertest

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/berthhq/berth/drivers"
)

// Signing returns b with a SignGet that returns URLs of the form
// https://signed.example/<key>?expires=<Unix seconds>, which lead nowhere. The
// overrides of the response headers are the parameters type and disposition, if
// they are not empty.
func Signing(b drivers.Bucket) drivers.Bucket { return signing{b} }

type signing struct {
	drivers.Bucket
}

func (s signing) SignGet(_ context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	now := time.Now()
	expires := now.Add(opts.Expires)
	if opts.Window > 0 {
		expires = now.Truncate(opts.Window).Add(opts.Expires + opts.Window)
	}
	expires = expires.Truncate(time.Second)
	q := url.Values{"expires": {strconv.FormatInt(expires.Unix(), 10)}}
	if opts.ContentType != "" {
		q.Set("type", opts.ContentType)
	}
	if opts.ContentDisposition != "" {
		q.Set("disposition", opts.ContentDisposition)
	}
	u := url.URL{Scheme: "https", Host: "signed.example", Path: "/" + key, RawQuery: q.Encode()}
	return drivers.Signed{URL: u.String(), Expires: expires}, nil
}
