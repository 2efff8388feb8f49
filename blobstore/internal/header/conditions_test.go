package header

import (
	"net/http"
	"testing"
)

func TestMatchTags(t *testing.T) {
	const tag = `"sha256:x"`
	for header, want := range map[string]Match{
		"": NoTag, "*": AnyTag, `"a", *`: AnyTag,
		tag: ThisTag, "W/" + tag: ThisTag, `"a", ` + tag + ` ,"b"`: ThisTag, `"a"` + tag: ThisTag, ",," + tag: ThisTag,
		"sha256:x": OtherTag, `"a","b"`: OtherTag, `"sha256:x`: OtherTag, `"`: OtherTag, `""`: OtherTag, "a, " + tag: OtherTag, `"a b", ` + tag: OtherTag, "w/" + tag: OtherTag,
	} {
		var lines []string
		if header != "" {
			lines = []string{header}
		}
		if got := matchTags(lines, tag, false); got != want {
			t.Errorf("matchTags(%q) = %v, want %v", header, got, want)
		}
		if header == "W/"+tag {
			want = OtherTag
		}
		if got := matchTags(lines, tag, true); got != want {
			t.Errorf("matchTags(%q, strong) = %v, want %v", header, got, want)
		}
	}
	if got := matchTags([]string{`"a"`, `"b", ` + tag}, tag, true); got != ThisTag {
		t.Errorf("matchTags(two lines) = %v, want %v", got, ThisTag)
	}
}

func TestParseConditions(t *testing.T) {
	const tag, ranges = `"sha256:x"`, "bytes=0-1"
	for _, test := range []struct {
		header http.Header
		want   Conditions
	}{
		{http.Header{}, Conditions{}},
		{http.Header{"If-Range": {tag}}, Conditions{}},
		{http.Header{"If-Range": {tag}, "Range": {ranges}}, Conditions{IfRange: ThisTag}},
		{http.Header{"If-Range": {" " + tag}, "Range": {ranges}}, Conditions{IfRange: ThisTag}},
		{http.Header{"If-Range": {"W/" + tag}, "Range": {ranges}}, Conditions{IfRange: OtherTag}},
		{http.Header{"If-Range": {"*"}, "Range": {ranges}}, Conditions{IfRange: OtherTag}},
		{http.Header{"If-Range": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Range": {ranges}}, Conditions{IfRange: OtherTag}},
		{http.Header{"If-Match": {tag}, "If-None-Match": {"W/" + tag}}, Conditions{IfMatch: ThisTag, IfNoneMatch: ThisTag}},
		{http.Header{"If-Match": {"W/" + tag}, "If-None-Match": {`"y"`}}, Conditions{IfMatch: OtherTag, IfNoneMatch: OtherTag}},
	} {
		if got := ParseConditions(test.header, tag); got != test.want {
			t.Errorf("ParseConditions(%v) = %v, want %v", test.header, got, test.want)
		}
	}
}
