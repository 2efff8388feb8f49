package blobstore

import (
	"net/http"
	"strings"
)

// match is how a conditional header stands to an entity tag.
type match int

const (
	noTag    match = iota // there is no such header
	otherTag              // it names other tags only
	anyTag                // it is "*"
	thisTag               // it names the tag
)

// conditions are the conditional headers of a request that are about tags.
type conditions struct {
	ifMatch, ifNoneMatch, ifRange match
}

// readConditions compares the headers with a blob's tag. If-Range is absent
// without a Range, and never "*".
func readConditions(h http.Header, etag string) conditions {
	c := conditions{
		ifMatch:     compare(h.Values("If-Match"), etag, true),
		ifNoneMatch: compare(h.Values("If-None-Match"), etag, false),
	}
	if condition := h.Get("If-Range"); condition != "" && h.Get("Range") != "" {
		c.ifRange = otherTag
		if tag, _ := cutTag(strings.TrimLeft(condition, " \t")); tag == etag {
			c.ifRange = thisTag
		}
	}
	return c
}

// compare compares the lines of an If-None-Match header with a tag
// (https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2), or those of an
// If-Match header, whose comparison is strong: weak tags don't count there. As
// in net/http, whatever follows something other than a tag doesn't count either.
func compare(lines []string, etag string, strong bool) match {
	header := strings.Join(lines, ",")
	if header == "" {
		return noTag
	}
	for {
		header = strings.TrimLeft(header, " \t\r\n,")
		if strings.HasPrefix(header, "*") {
			return anyTag
		}
		candidate, weak := strings.CutPrefix(header, "W/")
		tag, rest := cutTag(candidate)
		switch {
		case tag == "":
			return otherTag
		case tag == etag && (!weak || !strong):
			return thisTag
		}
		header = rest
	}
}

// cutTag returns the tag at the start of s, with its quotes, and what follows
// it.
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
