// Package header parses and writes the HTTP headers about ranges and entity
// tags, as RFC 9110 defines them
// (https://www.rfc-editor.org/rfc/rfc9110#section-13,
// https://www.rfc-editor.org/rfc/rfc9110#section-14). Ranges are inclusive in
// headers and half-open everywhere else; this package converts them.
package header

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxRanges is the maximum number of ranges in a request, each of which can cost
// a request to the store. Clients that pull parts of images merge their ranges
// down to this number
// (https://github.com/containers/storage/blob/main/pkg/chunked/storage_linux.go).
const MaxRanges = 1024

// Span is a half-open range of bytes.
type Span struct {
	Start, End int64
}

// Len returns the number of bytes in the span.
func (s Span) Len() int64 { return s.End - s.Start }

// ContentRange returns the Content-Range header of a response with this span of
// size bytes.
func (s Span) ContentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.Start, s.End-1, size)
}

// Ranges is a parsed Range header.
type Ranges struct {
	// Spans are the ranges in the order of the header, none of them empty. If
	// there are none, the response is the whole blob.
	Spans []Span

	// Plain reports that the header is ignored or asks for one range from one
	// position to another or to the end. Every server that supports ranges
	// supports these.
	Plain bool
}

// ParseRange parses the Range header of a GET of a blob of that size. The header
// is empty if there is none. ParseRange reports false if the header is malformed,
// or if none of its ranges is in the blob: the response is 416.
//
// The header is ignored if its unit is not bytes. Two more headers are answered
// with the whole blob: one for more than [MaxRanges], as
// https://www.rfc-editor.org/rfc/rfc9110#section-14.2 allows, or for more bytes
// than the blob has; and any well-formed one if the blob is empty, because some
// clients send one with every request.
func ParseRange(header string, size int64) (Ranges, bool) {
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return Ranges{Plain: true}, true
	}
	var r Ranges
	specs, left := 0, size
	for spec := range strings.SplitSeq(set, ",") {
		spec = strings.Trim(spec, " \t")
		if spec == "" { // https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1.2
			continue
		}
		s, ok := parseSpec(spec, size)
		if !ok {
			return Ranges{}, false
		}
		specs++
		r.Plain = specs == 1 && spec[0] != '-' && header == "bytes="+spec
		if s.Len() > 0 && len(r.Spans) <= MaxRanges && left >= 0 {
			r.Spans = append(r.Spans, s)
			left -= s.Len()
		}
	}
	switch {
	case specs == 0, len(r.Spans) == 0 && size > 0:
		return Ranges{}, false
	case specs > MaxRanges || left < 0:
		return Ranges{}, true
	}
	return r, true
}

// parseSpec parses one range of a Range header. The span is empty if the range is
// not in the blob.
func parseSpec(spec string, size int64) (Span, bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return Span{}, false
	}
	if first == "" { // "-n" is the last n bytes
		n, ok := parsePosition(last)
		return Span{size - min(n, size), size}, ok
	}
	start, ok := parsePosition(first)
	if !ok || last == "" {
		return Span{min(start, size), size}, ok
	}
	n, ok := parsePosition(last)
	return Span{min(start, size), min(n, size-1) + 1}, ok && start <= n
}

// parsePosition parses decimal digits. A number that is too large for an int64
// is larger than any blob. parsePosition returns the largest int64 for it.
func parsePosition(s string) (int64, bool) {
	if !isDigits(s) {
		return 0, false
	}
	n, _ := strconv.ParseInt(s, 10, 64) // returns the largest int64 with ErrRange
	return n, true
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
