package s3

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// checkHome returns an error unless the name is that of one general purpose
// bucket, which has one authoritative region. Amazon S3 reserves the suffixes.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
func checkHome(bucket string) error {
	has := func(suffix string) bool { return strings.HasSuffix(bucket, suffix) }
	isARN := strings.HasPrefix(bucket, "arn:")
	var why string
	switch {
	case has("--x-s3"), has("--xa-s3"):
		why = "is a directory bucket, which lists keys in no order: use a general purpose bucket"
	case has(".mrap"):
		why = "is a Multi-Region Access Point, behind which each region decides by itself whether a key is free: name the bucket of one region"
	case has("--op-s3"), isARN && strings.Contains(bucket, ":s3-outposts:"):
		why = "is on S3 on Outposts, which has no conditional writes: use a general purpose bucket"
	case has("--ol-s3"), isARN && strings.Contains(bucket, ":s3-object-lambda:"):
		why = "is an Object Lambda access point, which changes what is read: use the bucket behind it"
	case has("--table-s3"):
		why = "is a table bucket: use a general purpose bucket"
	case isARN && !isRegionalAccessPoint(bucket):
		why = "is not the ARN of an access point in one region (arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME)"
	default:
		return nil
	}
	return fmt.Errorf("s3.Config.Bucket: %q %s", bucket, why)
}

// isRegionalAccessPoint reports whether an ARN is that of an access point, which
// belongs to one region.
func isRegionalAccessPoint(arn string) bool {
	regional := regexp.MustCompile(`^arn:aws[a-z-]*:s3:[a-z0-9-]+:[0-9]+:accesspoint[:/][a-z0-9-]+$`)
	return regional.MatchString(arn)
}

// isR2 reports whether the endpoint is Cloudflare R2's, of any jurisdiction.
// https://developers.cloudflare.com/r2/reference/data-location/
func isR2(endpoint string) bool { return hostEnds(endpoint, "r2.cloudflarestorage.com") }

// isTigris reports whether the endpoint is Tigris's.
// https://www.tigrisdata.com/docs/sdks/s3/
func isTigris(endpoint string) bool {
	return hostEnds(endpoint, "t3.storage.dev") || hostEnds(endpoint, "storage.tigris.dev")
}

// isAmazon reports whether the endpoint is one of Amazon S3's own. An empty
// endpoint is.
func isAmazon(endpoint string) bool {
	return endpoint == "" || hostEnds(endpoint, "amazonaws.com") || hostEnds(endpoint, "amazonaws.com.cn")
}

// hostEnds reports whether the host of an endpoint is name or a subdomain of
// it.
func hostEnds(endpoint, name string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	return host == name || strings.HasSuffix(host, "."+name)
}
