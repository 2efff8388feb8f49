package s3

import "strings"

// A tag is an ETag without its quotes. The tag of a part may have a SHA-256
// besides, in base64, after a space.

// noTag is a well-formed ETag that no object has.
const noTag = "none"

// ifMatch is the condition that the object still has this tag. A tag that
// could mean anything else in the header is none, which matches nothing.
func ifMatch(tag string) *string {
	quoted := `"` + plainTag(tag) + `"`
	return &quoted
}

func plainTag(tag string) string {
	if tag == "" || tag == "*" {
		return noTag
	}
	for _, c := range []byte(tag) {
		if c <= ' ' || c == '"' || c == '\\' || c == ',' || c >= 0x7f {
			return noTag
		}
	}
	return tag
}

func tagOf(etag *string) string {
	if etag == nil {
		return ""
	}
	return strings.Trim(*etag, `"`)
}

func partTag(etag *string, sha256 string) string {
	if sha256 == "" {
		return tagOf(etag)
	}
	return tagOf(etag) + " " + sha256
}

// splitPartTag is the ETag and the SHA-256, which may be missing.
func splitPartTag(tag string) (etag, sha256 string) {
	etag, sha256, _ = strings.Cut(tag, " ")
	return plainTag(etag), sha256
}
