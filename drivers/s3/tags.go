package s3

import "strings"

// A tag is an ETag without its quotes. The tag of a part may also have a
// SHA-256, in base64, after a space.

// noTag is a well-formed ETag that no object has.
const noTag = "none"

// ifMatch returns the value of If-Match for a tag. A tag that could have
// another meaning in the header is replaced by noTag, which matches nothing.
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

// splitPartTag returns the ETag and the SHA-256 of a part's tag. The SHA-256
// may be empty.
func splitPartTag(tag string) (etag, sha256 string) {
	etag, sha256, _ = strings.Cut(tag, " ")
	return plainTag(etag), sha256
}
