package header

import (
	"net/http"
	"strings"
)

// Match is the result of comparing a conditional header with an entity tag.
type Match int

// The results of a comparison. [AnyTag] and [ThisTag] are matches.
const (
	NoTag    Match = iota // there is no such header
	OtherTag              // the header lists only other tags
	AnyTag                // the header is "*"
	ThisTag               // the header lists the tag
)

// Matches reports whether the header matches the tag.
func (m Match) Matches() bool { return m == AnyTag || m == ThisTag }

// Conditions are the conditional headers of a request that are about entity tags
// (https://www.rfc-editor.org/rfc/rfc9110#section-13.1).
type Conditions struct {
	IfMatch, IfNoneMatch Match
	IfRange              Match // NoTag without a Range header; never AnyTag
}

// ParseConditions compares the conditional headers with a blob's entity tag.
func ParseConditions(h http.Header, etag string) Conditions {
	c := Conditions{
		IfMatch:     matchTags(h.Values("If-Match"), etag, true),
		IfNoneMatch: matchTags(h.Values("If-None-Match"), etag, false),
	}
	if condition := h.Get("If-Range"); condition != "" && h.Get("Range") != "" {
		c.IfRange = OtherTag
		if tag, _ := cutTag(strings.TrimLeft(condition, " \t")); tag == etag {
			c.IfRange = ThisTag
		}
	}
	return c
}

// matchTags compares the lines of a header with a tag. The comparison of
// If-None-Match is weak
// (https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3.2); that of If-Match is
// strong, and a weak tag never matches. The header ends at the first thing that
// is not a tag, as in net/http.
func matchTags(lines []string, etag string, strong bool) Match {
	header := strings.Join(lines, ",")
	if header == "" {
		return NoTag
	}
	for {
		header = strings.TrimLeft(header, " \t\r\n,")
		if strings.HasPrefix(header, "*") {
			return AnyTag
		}
		candidate, weak := strings.CutPrefix(header, "W/")
		tag, rest := cutTag(candidate)
		switch {
		case tag == "":
			return OtherTag
		case tag == etag && (!weak || !strong):
			return ThisTag
		}
		header = rest
	}
}

// cutTag returns the tag at the start of s, with its quotes, and the rest of s.
func cutTag(s string) (tag, rest string) {
	if !strings.HasPrefix(s, `"`) {
		return "", ""
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], s[i+1:]
		case c <= ' ' || c == 0x7f:
			return "", ""
		}
	}
	return "", ""
}
