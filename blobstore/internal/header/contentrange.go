package header

import (
	"strconv"
	"strings"
)

// ParseContentRange parses the Content-Range of a chunk of an upload. It accepts
// the form of the distribution specification, "0-1023", and that of
// https://www.rfc-editor.org/rfc/rfc9110#section-14.4, "bytes 0-1023/*" or with
// the complete length. It reports false if the header is malformed.
func ParseContentRange(header string) (Span, bool) {
	s := strings.TrimSpace(header)
	if rest, ok := strings.CutPrefix(s, "bytes "); ok {
		s = strings.TrimSpace(rest)
	}
	s, total, hasTotal := strings.Cut(s, "/")
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return Span{}, false
	}
	start, ok := parseOffset(first)
	if !ok {
		return Span{}, false
	}
	end, ok := parseOffset(last)
	if !ok || end < start || end+1 < 0 {
		return Span{}, false
	}
	if hasTotal && total != "*" {
		if n, ok := parseOffset(total); !ok || n <= end {
			return Span{}, false
		}
	}
	return Span{start, end + 1}, true
}

// parseOffset parses decimal digits. It reports false if the number is too large
// for an int64.
func parseOffset(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && isDigits(s)
}

// UploadRange returns the Range header of a response about an upload, of which
// size bytes are stored: the inclusive range of those bytes. For no bytes it is
// "0-0", the same as for one byte, because clients expect this form.
func UploadRange(size int64) string { return "0-" + strconv.FormatInt(max(size-1, 0), 10) }
