package blobstore

import (
	"net/http"
	"testing"
)

func TestCompare(t *testing.T) {
	const tag = `"sha256:x"`
	for header, want := range map[string]match{
		"": noTag, "*": anyTag, `"a", *`: anyTag,
		tag: thisTag, "W/" + tag: thisTag, `"a", ` + tag + ` ,"b"`: thisTag, `"a"` + tag: thisTag, ",," + tag: thisTag,
		"sha256:x": otherTag, `"a","b"`: otherTag, `"sha256:x`: otherTag, `"`: otherTag, `""`: otherTag, "a, " + tag: otherTag, `"a b", ` + tag: otherTag, "w/" + tag: otherTag,
	} {
		var lines []string
		if header != "" {
			lines = []string{header}
		}
		if got := compare(lines, tag, false); got != want {
			t.Errorf("compare(%q) = %v, want %v", header, got, want)
		}
		if header == "W/"+tag {
			want = otherTag
		}
		if got := compare(lines, tag, true); got != want {
			t.Errorf("compare(%q), strongly, = %v, want %v", header, got, want)
		}
	}
	if got := compare([]string{`"a"`, `"b", ` + tag}, tag, true); got != thisTag {
		t.Errorf("compare of two lines = %v, want %v", got, thisTag)
	}
}

func TestReadConditions(t *testing.T) {
	const tag, ranges = `"sha256:x"`, "bytes=0-1"
	for _, test := range []struct {
		header http.Header
		want   conditions
	}{
		{http.Header{}, conditions{}},
		{http.Header{"If-Range": {tag}}, conditions{}},
		{http.Header{"If-Range": {tag}, "Range": {ranges}}, conditions{ifRange: thisTag}},
		{http.Header{"If-Range": {" " + tag}, "Range": {ranges}}, conditions{ifRange: thisTag}},
		{http.Header{"If-Range": {"W/" + tag}, "Range": {ranges}}, conditions{ifRange: otherTag}},
		{http.Header{"If-Range": {"*"}, "Range": {ranges}}, conditions{ifRange: otherTag}},
		{http.Header{"If-Range": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Range": {ranges}}, conditions{ifRange: otherTag}},
		{http.Header{"If-Match": {tag}, "If-None-Match": {"W/" + tag}}, conditions{ifMatch: thisTag, ifNoneMatch: thisTag}},
		{http.Header{"If-Match": {"W/" + tag}, "If-None-Match": {`"y"`}}, conditions{ifMatch: otherTag, ifNoneMatch: otherTag}},
	} {
		if got := readConditions(test.header, tag); got != test.want {
			t.Errorf("readConditions(%v) = %v, want %v", test.header, got, test.want)
		}
	}
}
