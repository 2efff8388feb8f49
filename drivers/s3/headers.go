package s3

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// consistentHeader makes Tigris evaluate conditions and read in one region.
// Without it each region of a global bucket evaluates them on its copy.
// https://www.tigrisdata.com/docs/objects/conditionals/
const consistentHeader = "X-Tigris-Consistent"

// headers returns options that add the configured headers to each request to the
// store at endpoint, before the request is signed.
func (c *Config) headers(endpoint string) []func(*middleware.Stack) error {
	all := http.Header{}
	if isTigris(endpoint) {
		all.Set(consistentHeader, "true")
	}
	for name, value := range c.Headers {
		all.Set(name, value)
	}
	var options []func(*middleware.Stack) error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		options = append(options, smithyhttp.SetHeaderValue(name, all.Get(name)))
	}
	return options
}

// checkHeaders returns an error if a header can't be sent, or must not be set
// by the operator.
func checkHeaders(headers map[string]string) error {
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := http.CanonicalHeaderKey(name)
		switch value := headers[name]; {
		case isReserved(canonical):
			return fmt.Errorf("s3.Config.Headers: %s is set by berth", name)
		case !isToken(name):
			return fmt.Errorf("s3.Config.Headers: %q is not the name of a header", name)
		case canonical == consistentHeader && value != "true":
			return fmt.Errorf("s3.Config.Headers: %s: want true: conditions must hold in all regions", name)
		case seen[canonical]:
			return fmt.Errorf("s3.Config.Headers: %s is set twice", canonical)
		case strings.TrimSpace(value) == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
			return fmt.Errorf("s3.Config.Headers: %s: want a value of printable ASCII", name)
		}
		seen[canonical] = true
	}
	return nil
}

// isReserved reports whether the SDK, this driver or a connection sets the
// header.
func isReserved(canonical string) bool {
	for _, reserved := range []string{ // names, and prefixes that end with "-"
		"Accept-Encoding", "Authorization", "Connection", "Date", "Expect", "Host", "Keep-Alive", "Proxy-", "Range", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "User-Agent",
		"Amz-Sdk-", "Content-", "If-", "X-Amz-Checksum-", "X-Amz-Content-Sha256", "X-Amz-Copy-", "X-Amz-Date", "X-Amz-Expected-Bucket-Owner",
		"X-Amz-Request-Payer", "X-Amz-Sdk-", "X-Amz-Security-Token", "X-Amz-Server-Side-Encryption", "X-Amz-Storage-Class", "X-Amz-User-Agent",
	} {
		if canonical == reserved || strings.HasPrefix(canonical, strings.TrimSuffix(reserved, "-")+"-") {
			return true
		}
	}
	return false
}

// isToken reports whether name can be the name of a header.
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}
