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
// Without it each region of a global bucket decides by its own copy.
// https://www.tigrisdata.com/docs/objects/conditionals/
const consistentHeader = "X-Tigris-Consistent"

// headers returns options that send the configured headers with each request
// to the store at endpoint, before it is signed.
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

// reserved lists the headers, and the prefixes of headers, that the SDK, this
// driver or a connection sets by itself.
var reserved = []string{
	"Accept-Encoding", "Authorization", "Connection", "Date", "Expect", "Host", "Keep-Alive", "Proxy-", "Range", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "User-Agent",
	"Amz-Sdk-", "Content-", "If-", "X-Amz-Checksum-", "X-Amz-Content-Sha256", "X-Amz-Copy-", "X-Amz-Date", "X-Amz-Expected-Bucket-Owner",
	"X-Amz-Request-Payer", "X-Amz-Sdk-", "X-Amz-Security-Token", "X-Amz-Server-Side-Encryption", "X-Amz-Storage-Class", "X-Amz-User-Agent",
}

// checkHeaders returns an error if a header cannot be sent, or is not the
// operator's to set.
func checkHeaders(headers map[string]string) error {
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := http.CanonicalHeaderKey(name)
		for _, begin := range reserved {
			if canonical == begin || strings.HasSuffix(begin, "-") && strings.HasPrefix(canonical, begin) ||
				strings.HasPrefix(canonical, begin+"-") {
				return fmt.Errorf("storage.s3.headers: %s is set by berth itself", name)
			}
		}
		switch value := headers[name]; {
		case !isToken(name):
			return fmt.Errorf("storage.s3.headers: %q is not the name of a header", name)
		case canonical == consistentHeader && value != "true":
			return fmt.Errorf("storage.s3.headers: %s: want true: conditions must hold in all regions", name)
		case seen[canonical]:
			return fmt.Errorf("storage.s3.headers: %s is given twice", canonical)
		case strings.TrimSpace(value) == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
			return fmt.Errorf("storage.s3.headers: %s: want a value of printable ASCII", name)
		}
		seen[canonical] = true
	}
	return nil
}

// isToken reports whether a word can be the name of a header.
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}
