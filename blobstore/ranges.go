package blobstore

import (
	"fmt"
	"strconv"
	"strings"
)

// maxRanges is the number of ranges that one request may ask for, each of which
// can cost a request to the store. Clients of partially pulled images merge
// theirs down to as many
// (https://github.com/containers/storage/blob/main/pkg/chunked/storage_linux.go).
const maxRanges = 1024

// ErrRange reports that a Range header is malformed, or that none of its ranges
// is in the blob.
type ErrRange struct {
	Size int64 // of the blob, in bytes
}

func (err ErrRange) Error() string {
	return fmt.Sprintf("no such range in a blob of %d bytes", err.Size)
}

// span is a half-open range of the bytes of a blob.
type span struct {
	start, end int64
}

// contentRange returns the Content-Range header of the span.
func (s span) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.start, s.end-1, size)
}

// wanted is what a Range header asks for.
type wanted struct {
	// spans are the ranges in the order in which the client asks for them, none
	// of them empty. Without any, the answer is the whole blob.
	spans []span

	// plain reports that the header is ignored or asks for one range from one
	// position to another or to the end. Every server that knows ranges knows
	// these.
	plain bool
}

// parseRange parses the Range header of a GET of a blob of that size, which is
// empty if there is none. It returns an [ErrRange] if the header is malformed,
// or if no range of it is in the blob
// (https://www.rfc-editor.org/rfc/rfc9110#section-14).
//
// The header is ignored if its unit is not bytes. Two more headers are answered
// with the whole blob: one for more than [maxRanges], as
// https://www.rfc-editor.org/rfc/rfc9110#section-14.2 allows, or for more bytes
// than the blob has; and any well-formed one if the blob is empty, because some
// clients send one with every request.
func parseRange(header string, size int64) (wanted, error) {
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return wanted{plain: true}, nil
	}
	var w wanted
	specs, left := 0, size
	for spec := range strings.SplitSeq(set, ",") {
		spec = strings.Trim(spec, " \t")
		if spec == "" { // https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1.2
			continue
		}
		s, ok := parseSpec(spec, size)
		if !ok {
			return wanted{}, ErrRange{size}
		}
		specs++
		w.plain = specs == 1 && spec[0] != '-' && header == "bytes="+spec
		if s.start < s.end && len(w.spans) <= maxRanges && left >= 0 {
			w.spans = append(w.spans, s)
			left -= s.end - s.start
		}
	}
	switch {
	case specs == 0, len(w.spans) == 0 && size > 0:
		return wanted{}, ErrRange{size}
	case specs > maxRanges || left < 0:
		return wanted{}, nil
	}
	return w, nil
}

// parseSpec parses one range, which is empty if it is not in the blob. Here
// ranges stop being inclusive.
func parseSpec(spec string, size int64) (span, bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return span{}, false
	}
	if first == "" { // the last bytes
		n, ok := parsePosition(last)
		return span{size - min(n, size), size}, ok
	}
	start, ok := parsePosition(first)
	if !ok || last == "" {
		return span{min(start, size), size}, ok
	}
	n, ok := parsePosition(last)
	return span{min(start, size), min(n, size-1) + 1}, ok && start <= n
}

// parsePosition parses decimal digits. A number that is too large for an int64
// is larger than any blob, and becomes the largest int64.
func parsePosition(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, _ := strconv.ParseInt(s, 10, 64) // the largest, with ErrRange
	return n, true
}
