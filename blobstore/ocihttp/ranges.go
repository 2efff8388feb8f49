package ocihttp

import (
	"fmt"
	"strconv"
	"strings"
)

// span is a half-open range of bytes of an upload.
type span struct {
	start, end int64
}

// parseContentRange reads the Content-Range of a chunk. Both the form of the
// distribution specification, "0-1023", and that of RFC 9110 section 14.4,
// "bytes 0-1023/*" or with a length, are taken. It is where ranges stop being
// inclusive.
func parseContentRange(header string) (span, error) {
	bad := func() (span, error) { return span{}, badContentRange(header) }
	s := strings.TrimSpace(header)
	if rest, ok := strings.CutPrefix(s, "bytes "); ok {
		s = strings.TrimSpace(rest)
	}
	s, total, hasTotal := strings.Cut(s, "/")
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return bad()
	}
	start, ok := parseOffset(first)
	if !ok {
		return bad()
	}
	end, ok := parseOffset(last)
	if !ok || end < start || end+1 < 0 {
		return bad()
	}
	if hasTotal && total != "*" {
		if n, ok := parseOffset(total); !ok || n <= end {
			return bad()
		}
	}
	return span{start, end + 1}, nil
}

// parseOffset takes decimal digits and nothing else.
func parseOffset(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// uploadRange is the Range header of an upload of which size bytes are safe:
// the inclusive range from the first to the last of them. Of none it is "0-0",
// as of one, for that is what clients are used to.
func uploadRange(size int64) string { return fmt.Sprintf("0-%d", max(size-1, 0)) }
