package ocihttp

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

const (
	sha256Hello = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	someUUID    = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
)

var sha512Hello = digest.SHA512.FromString("hello").String()

var parseTests = []struct {
	method, url string
	want        request
	code        string // of the error
}{
	{method: "GET", url: "/v2/", want: request{action: actVersion}},
	{method: "HEAD", url: "/v2", want: request{action: actVersion}},
	{method: "PUT", url: "/v2/", code: codeUnsupported},
	{method: "GET", url: "/", code: codeUnsupported},
	{method: "GET", url: "", code: codeUnsupported},
	{method: "GET", url: "/v22/", code: codeUnsupported},
	{method: "GET", url: "/v2/a", code: codeUnsupported},
	{method: "GET", url: "/v2/a/blobs", code: codeUnsupported},
	{method: "GET", url: "/v2/blobs/uploads/x", code: codeUnsupported},
	{method: "POST", url: "/v2/blobs/uploads/", code: codeUnsupported},

	{method: "GET", url: "/v2/a/blobs/" + sha256Hello, want: request{action: actGetBlob, name: "a", digest: sha256Hello}},
	{method: "HEAD", url: "/v2/a/b/c/blobs/" + sha512Hello, want: request{action: actHeadBlob, name: "a/b/c", digest: digest.Digest(sha512Hello)}},
	{method: "DELETE", url: "/v2/a/blobs/" + sha256Hello, want: request{action: actDeleteBlob, name: "a", digest: sha256Hello}},
	{method: "GET", url: "/v2/a%2fb/blobs/sha256%3A" + sha256Hello[7:], want: request{action: actGetBlob, name: "a/b", digest: sha256Hello}},
	{method: "PATCH", url: "/v2/a/blobs/" + sha256Hello, code: codeUnsupported},
	{method: "GET", url: "/v2/A/blobs/" + sha256Hello, code: codeNameInvalid},
	{method: "GET", url: "/v2/a/blobs/x", code: codeDigestInvalid},
	{method: "GET", url: "/v2/A/blobs/x", code: codeNameInvalid},

	// Names with segments that are fixed in other paths.
	{method: "GET", url: "/v2/blobs/blobs/" + sha256Hello, want: request{action: actGetBlob, name: "blobs", digest: sha256Hello}},
	{method: "GET", url: "/v2/a/blobs/uploads/blobs/" + sha256Hello, want: request{action: actGetBlob, name: "a/blobs/uploads", digest: sha256Hello}},
	{method: "POST", url: "/v2/blobs/blobs/uploads/", want: request{action: actStartUpload, name: "blobs"}},
	{method: "POST", url: "/v2/a/blobs/uploads/blobs/uploads/", want: request{action: actStartUpload, name: "a/blobs/uploads"}},
	{method: "GET", url: "/v2/a/blobs/uploads/blobs/uploads", code: codeUnsupported},

	{method: "POST", url: "/v2/a/blobs/uploads/", want: request{action: actStartUpload, name: "a"}},
	{method: "POST", url: "/v2/a/blobs/uploads", want: request{action: actStartUpload, name: "a"}},
	{method: "POST", url: "/v2/a/blobs/uploads/?digest=" + sha256Hello, want: request{action: actStartUpload, name: "a", digest: sha256Hello}},
	{method: "POST", url: "/v2/a/blobs/uploads/?digest", code: codeDigestInvalid},
	{method: "POST", url: "/v2/a/blobs/uploads/?mount=" + sha256Hello + "&from=b/c", want: request{action: actStartUpload, name: "a", mount: sha256Hello, from: "b/c"}},
	{method: "POST", url: "/v2/a/blobs/uploads/?mount=" + sha256Hello + "&from=UPPER", want: request{action: actStartUpload, name: "a"}},
	{method: "POST", url: "/v2/a/blobs/uploads/?mount=" + sha256Hello, want: request{action: actStartUpload, name: "a", mount: sha256Hello}},
	{method: "POST", url: "/v2/a/blobs/uploads/?mount=", code: codeDigestInvalid},
	{method: "POST", url: "/v2/a/blobs/uploads/?from=b", want: request{action: actStartUpload, name: "a"}},
	{method: "POST", url: "/v2/a/blobs/uploads/?digest-algorithm=sha512", want: request{action: actStartUpload, name: "a", algorithm: digest.SHA512}},
	{method: "POST", url: "/v2/a/blobs/uploads/?digest-algorithm=md5", want: request{action: actStartUpload, name: "a", algorithm: "md5"}},
	{method: "POST", url: "/v2/a/blobs/uploads/?;", code: codeUploadInvalid},
	{method: "PUT", url: "/v2/a/blobs/uploads/", code: codeUnsupported},

	{method: "GET", url: "/v2/a/blobs/uploads/" + someUUID + "?_state=s", want: request{action: actUploadStatus, name: "a", upload: someUUID, state: "s"}},
	{method: "HEAD", url: "/v2/a/blobs/uploads/" + someUUID, want: request{action: actUploadStatus, name: "a", upload: someUUID}},
	{method: "PATCH", url: "/v2/a/blobs/uploads/x?_state=s&digest=x", want: request{action: actAppendUpload, name: "a", upload: "x", state: "s"}},
	{method: "DELETE", url: "/v2/a/blobs/uploads/x?_state=s", want: request{action: actCancelUpload, name: "a", upload: "x", state: "s"}},
	{method: "PUT", url: "/v2/a/blobs/uploads/x?_state=s&digest=" + sha256Hello, want: request{action: actFinishUpload, name: "a", upload: "x", state: "s", digest: sha256Hello}},
	{method: "PUT", url: "/v2/a/blobs/uploads/x?_state=s", code: codeDigestInvalid},
	{method: "PUT", url: "/v2/a/blobs/uploads/x?_state=s&digest=sha1:0", code: codeDigestInvalid},
	{method: "PUT", url: "/v2/a/blobs/uploads/x?%", code: codeUploadInvalid},
	{method: "POST", url: "/v2/a/blobs/uploads/x", code: codeUnsupported},

	{method: "GET", url: "/v2/a/manifests/latest", want: request{action: actGetManifest, name: "a", tag: "latest"}},
	{method: "HEAD", url: "/v2/a/b/manifests/V_1.0-x", want: request{action: actHeadManifest, name: "a/b", tag: "V_1.0-x"}},
	{method: "GET", url: "/v2/a/manifests/" + sha512Hello, want: request{action: actGetManifest, name: "a", digest: digest.Digest(sha512Hello)}},
	{method: "GET", url: "/v2/a/manifests/latest?ns=docker.io&tag=-&%", want: request{action: actGetManifest, name: "a", tag: "latest"}},
	{method: "PUT", url: "/v2/a/manifests/latest", want: request{action: actPutManifest, name: "a", tag: "latest"}},
	{method: "PUT", url: "/v2/a/manifests/latest?tag=other", want: request{action: actPutManifest, name: "a", tag: "latest"}},
	{method: "PUT", url: "/v2/a/manifests/" + sha256Hello, want: request{action: actPutManifest, name: "a", digest: sha256Hello}},
	{method: "PUT", url: "/v2/a/manifests/" + sha256Hello + "?tag=b&tag=a&tag=b&x=y", want: request{action: actPutManifest, name: "a", digest: sha256Hello, tags: []string{"b", "a"}}},
	{method: "PUT", url: "/v2/a/manifests/" + sha256Hello + "?" + strings.Repeat("tag=a&", 100), want: request{action: actPutManifest, name: "a", digest: sha256Hello, tags: []string{"a"}}},
	{method: "DELETE", url: "/v2/a/manifests/latest", want: request{action: actDeleteManifest, name: "a", tag: "latest"}},
	{method: "DELETE", url: "/v2/a/manifests/" + sha256Hello, want: request{action: actDeleteManifest, name: "a", digest: sha256Hello}},
	{method: "PUT", url: "/v2/a/manifests/" + sha256Hello + "?" + strings.Repeat("tag=a&", 101), code: codeTagInvalid},
	{method: "PUT", url: "/v2/a/manifests/" + sha256Hello + "?tag=", code: codeTagInvalid},
	{method: "PUT", url: "/v2/a/manifests/" + sha256Hello + "?tag=a/b", code: codeTagInvalid},
	{method: "PUT", url: "/v2/a/manifests/" + sha256Hello + "?%", code: codeManifestInvalid},
	{method: "PUT", url: "/v2/a/manifests/.a", code: codeTagInvalid},
	{method: "PUT", url: "/v2/a/manifests/", code: codeTagInvalid},
	{method: "PUT", url: "/v2/a/manifests/sha256:baddigeststring", code: codeDigestInvalid},
	{method: "GET", url: "/v2/a/manifests/sha256:baddigeststring", code: codeDigestInvalid},
	{method: "GET", url: "/v2/a/manifests/.a", code: codeManifestUnknown},
	{method: "HEAD", url: "/v2/a/manifests/" + strings.Repeat("a", 129), code: codeManifestUnknown},
	{method: "DELETE", url: "/v2/a/manifests/-", code: codeManifestUnknown},
	{method: "GET", url: "/v2/A/manifests/latest", code: codeNameInvalid},
	{method: "POST", url: "/v2/a/manifests/latest", code: codeUnsupported},
	{method: "GET", url: "/v2/a/manifests", code: codeUnsupported},
	{method: "GET", url: "/v2/manifests/latest", code: codeUnsupported},

	{method: "GET", url: "/v2/a/b/tags/list", want: request{action: actListTags, name: "a/b", page: page{n: maxPage}}},
	{method: "GET", url: "/v2/a/tags/list?n=0", want: request{action: actListTags, name: "a"}},
	{method: "GET", url: "/v2/a/tags/list?n=7&last=v1", want: request{action: actListTags, name: "a", page: page{n: 7, last: "v1"}}},
	{method: "GET", url: "/v2/a/tags/list?n=&last=%2f%00", want: request{action: actListTags, name: "a", page: page{n: maxPage, last: "/\x00"}}},
	{method: "GET", url: "/v2/a/tags/list?n=10001", want: request{action: actListTags, name: "a", page: page{n: maxPage}}},
	{method: "GET", url: "/v2/a/tags/list?n=99999999999999999999999999", want: request{action: actListTags, name: "a", page: page{n: maxPage}}},
	{method: "GET", url: "/v2/a/tags/list?n=0000000000000000000000000000003", want: request{action: actListTags, name: "a", page: page{n: 3}}},
	{method: "GET", url: "/v2/a/tags/list?n=-1", code: codeCountInvalid},
	{method: "GET", url: "/v2/a/tags/list?n=-99999999999999999999999999", code: codeCountInvalid},
	{method: "GET", url: "/v2/a/tags/list?n=%2b1", code: codeCountInvalid},
	{method: "GET", url: "/v2/a/tags/list?n=1.5", code: codeCountInvalid},
	{method: "GET", url: "/v2/a/tags/list?n=0x10", code: codeCountInvalid},
	{method: "GET", url: "/v2/a/tags/list?n=1_0", code: codeCountInvalid},
	{method: "GET", url: "/v2/a/tags/list?n=ten", code: codeCountInvalid},
	{method: "GET", url: "/v2/a/tags/list?%", code: codeUnsupported},
	{method: "DELETE", url: "/v2/a/tags/list", code: codeUnsupported},
	{method: "GET", url: "/v2/a/tags/lists", code: codeUnsupported},
	{method: "GET", url: "/v2/tags/list", code: codeUnsupported},

	{method: "GET", url: "/v2/_catalog", want: request{action: actCatalog, page: page{n: maxPage}}},
	{method: "GET", url: "/v2/_catalog?n=2&last=a/b", want: request{action: actCatalog, page: page{n: 2, last: "a/b"}}},
	{method: "GET", url: "/v2/_catalog?n=x", code: codeCountInvalid},
	{method: "GET", url: "/v2/_catalog/", code: codeUnsupported},
	{method: "GET", url: "/v2/_catalog/tags/list", code: codeNameInvalid},
	{method: "POST", url: "/v2/_catalog", code: codeUnsupported},

	{method: "GET", url: "/v2/a/referrers/" + sha256Hello, want: request{action: actListReferrers, name: "a", digest: sha256Hello}},
	{method: "GET", url: "/v2/a/referrers/" + sha256Hello + "?artifactType=application%2fx%2bjson&n=1", want: request{action: actListReferrers, name: "a", digest: sha256Hello, artifactType: "application/x+json"}},
	{method: "GET", url: "/v2/a/referrers/" + sha256Hello + "?artifactType=&last=" + sha512Hello, want: request{action: actListReferrers, name: "a", digest: sha256Hello, page: page{last: sha512Hello}}},
	{method: "GET", url: "/v2/a/referrers/latest", code: codeDigestInvalid},
	{method: "GET", url: "/v2/a/referrers/", code: codeDigestInvalid},
	{method: "GET", url: "/v2/a/referrers/" + sha256Hello + "?last=x", code: codeDigestInvalid},
	{method: "GET", url: "/v2/a/referrers/" + sha256Hello + "?%", code: codeUnsupported},

	// Names with segments that are fixed in other paths, of manifests and lists.
	{method: "GET", url: "/v2/manifests/manifests/manifests", want: request{action: actGetManifest, name: "manifests", tag: "manifests"}},
	{method: "GET", url: "/v2/a/manifests/tags/list", want: request{action: actListTags, name: "a/manifests", page: page{n: maxPage}}},
	{method: "GET", url: "/v2/tags/list/manifests/list", want: request{action: actGetManifest, name: "tags/list", tag: "list"}},
	{method: "GET", url: "/v2/tags/tags/list", want: request{action: actListTags, name: "tags", page: page{n: maxPage}}},
	{method: "PUT", url: "/v2/a/blobs/uploads/manifests/uploads", want: request{action: actPutManifest, name: "a/blobs/uploads", tag: "uploads"}},
	{method: "GET", url: "/v2/a/manifests/blobs/" + sha256Hello, want: request{action: actGetBlob, name: "a/manifests", digest: sha256Hello}},
	{method: "POST", url: "/v2/manifests/latest/blobs/uploads/", want: request{action: actStartUpload, name: "manifests/latest"}},
	{method: "GET", url: "/v2/referrers/referrers/" + sha256Hello, want: request{action: actListReferrers, name: "referrers", digest: sha256Hello}},
	{method: "GET", url: "/v2/a/referrers/manifests/" + sha256Hello, want: request{action: actGetManifest, name: "a/referrers", digest: sha256Hello}},
}

func TestParse(t *testing.T) {
	for _, c := range parseTests {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(c.method, u)
		if c.code != "" {
			if err == nil || responseTo(err).code != c.code {
				t.Errorf("parse(%s %s) = %+v, %v, want an error with code %s", c.method, c.url, got, err, c.code)
			}
			continue
		}
		if err != nil {
			t.Errorf("parse(%s %s): %v", c.method, c.url, err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(request{}, page{})); diff != "" {
			t.Errorf("parse(%s %s) (-want +got):\n%s", c.method, c.url, diff)
		}
	}
}

func TestParseName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "0": true, "a/b": true, "a.b": true, "a_b": true, "a__b": true, "a-b": true, "a----b": true,
		"a.b_c__d-e/f": true, strings.Repeat("a", 255): true, strings.Repeat("a/", 127) + "a": true,
		"": false, "/": false, "a/": false, "/a": false, "a//b": false, ".": false, "..": false, "a/../b": false,
		".a": false, "a.": false, "_a": false, "a_": false, "-a": false, "a-": false, "a..b": false, "a___b": false,
		"a._b": false, "a-_b": false, "A": false, "Library/x": false, "localhost:5000/x": false, "[::1]/x": false,
		"a b": false, "a\x00b": false, "é": false, "a!b": false, "a:b": false, strings.Repeat("a", 256): false,
	} {
		if _, err := parseName(strings.Split(name, "/")); err == nil != want {
			t.Errorf("parseName(%q) = %v, want it accepted: %v", name, err, want)
		}
	}
}

// canonical returns the shortest method and URL that parse to r.
func (r request) canonical() (method string, u *url.URL) {
	q := url.Values{}
	set := func(key, value string) {
		if value != "" {
			q.Set(key, value)
		}
	}
	name := "/v2/" + r.name.Name()
	path := name + "/blobs/"
	switch r.action {
	case actVersion:
		return http.MethodGet, &url.URL{Path: "/v2/"}
	case actGetBlob:
		return http.MethodGet, &url.URL{Path: path + r.digest.String()}
	case actHeadBlob:
		return http.MethodHead, &url.URL{Path: path + r.digest.String()}
	case actDeleteBlob:
		return http.MethodDelete, &url.URL{Path: path + r.digest.String()}
	case actGetManifest, actHeadManifest, actPutManifest, actDeleteManifest:
		method = map[action]string{actGetManifest: "GET", actHeadManifest: "HEAD", actPutManifest: "PUT", actDeleteManifest: "DELETE"}[r.action]
		return method, &url.URL{Path: name + "/manifests/" + r.tag + r.digest.String(), RawQuery: url.Values{"tag": r.tags}.Encode()}
	case actListTags, actCatalog:
		set("n", strconv.Itoa(r.page.n))
		set("last", r.page.last)
		path = "/v2/_catalog"
		if r.action == actListTags {
			path = name + "/tags/list"
		}
		return http.MethodGet, &url.URL{Path: path, RawQuery: q.Encode()}
	case actListReferrers:
		set("last", r.page.last)
		set("artifactType", r.artifactType)
		return http.MethodGet, &url.URL{Path: name + "/referrers/" + r.digest.String(), RawQuery: q.Encode()}
	case actStartUpload:
		set("digest", r.digest.String())
		set("mount", r.mount.String())
		set("from", r.from.Name())
		set("digest-algorithm", r.algorithm.String())
		return http.MethodPost, &url.URL{Path: path + "uploads/", RawQuery: q.Encode()}
	case actFinishUpload:
		set("digest", r.digest.String())
	}
	set("_state", r.state)
	method = map[action]string{actUploadStatus: "GET", actAppendUpload: "PATCH", actFinishUpload: "PUT", actCancelUpload: "DELETE"}[r.action]
	return method, &url.URL{Path: path + "uploads/" + r.upload, RawQuery: q.Encode()}
}

// validTag matches tags as the specification defines them.
var validTag = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func TestParseTag(t *testing.T) {
	for tag, want := range map[string]bool{
		"a": true, "A": true, "0": true, "_": true, "v1.2.3-rc.1_x": true, "a.": true, "a-": true, "__..--": true, strings.Repeat("z", 128): true,
		"": false, ".": false, ".a": false, "-a": false, "a b": false, "a/b": false, "a:b": false, "é": false, "a\x00": false, "a\n": false,
		"a+b": false, "@a": false, strings.Repeat("z", 129): false,
	} {
		if _, err := parseTag(tag); err == nil != want || want != validTag.MatchString(tag) {
			t.Errorf("parseTag(%q) = %v, want it accepted: %v", tag, err, want)
		}
	}
}

// problems returns what no request that parse returns may have.
func (r request) problems() (problems []string) {
	if r.action != actVersion && r.action != actCatalog {
		if _, err := parseName(strings.Split(r.name.Name(), "/")); err != nil {
			problems = append(problems, fmt.Sprintf("the invalid name %q", r.name))
		}
	}
	for _, d := range []digest.Digest{r.digest, r.mount} {
		if d != "" && d.Validate() != nil {
			problems = append(problems, fmt.Sprintf("the invalid digest %q", d))
		}
	}
	for _, tag := range append(r.tags, r.tag) {
		if tag != "" && !validTag.MatchString(tag) {
			problems = append(problems, fmt.Sprintf("the invalid tag %q", tag))
		}
	}
	if r.page.n < 0 || r.page.n > maxPage {
		problems = append(problems, fmt.Sprintf("a page of %d entries", r.page.n))
	}
	return problems
}

// FuzzParse tests that parse returns only valid names and digests, and that the
// canonical form of a request parses to the same request.
func FuzzParse(f *testing.F) {
	for _, method := range []string{"GET", "POST", "PATCH", "PUT", "DELETE"} {
		f.Add(method, "/v2/", "")
		f.Add(method, "/v2/a/b/blobs/"+sha256Hello, "")
		f.Add(method, "/v2/a/blobs/uploads/", "mount="+sha512Hello+"&from=b&digest-algorithm=sha512&digest="+sha256Hello)
		f.Add(method, "/v2/a/blobs/uploads/"+someUUID, "_state=x&digest="+sha256Hello)
		f.Add(method, "/v2/a/manifests/latest", "")
		f.Add(method, "/v2/a/manifests/"+sha512Hello, "tag=a&tag=b")
		f.Add(method, "/v2/a/tags/list", "n=3&last=v1")
		f.Add(method, "/v2/_catalog", "n=3&last=a/b")
		f.Add(method, "/v2/a/referrers/"+sha256Hello, "artifactType=a/b&last="+sha256Hello)
	}
	f.Fuzz(func(t *testing.T, method, path, query string) {
		r, err := parse(method, &url.URL{Path: path, RawQuery: query})
		if err != nil {
			if e := responseTo(err); e.status < 400 || e.status >= 500 {
				t.Errorf("parse(%q %q?%q) = %v, which is answered with %d, want 4xx", method, path, query, err, e.status)
			}
			return
		}
		for _, problem := range r.problems() {
			t.Errorf("parse(%q %q?%q) has %s", method, path, query, problem)
		}
		method2, u := r.canonical()
		u2, err := url.ParseRequestURI(u.RequestURI()) // in the form in which a client sends it
		if err != nil {
			t.Fatalf("%v: %v", u, err)
		}
		again, err := parse(method2, u2)
		if err != nil {
			t.Errorf("parse(%s %s), the canonical form of %q %q?%q: %v", method2, u2, method, path, query, err)
		}
		if diff := cmp.Diff(r, again, cmp.AllowUnexported(request{}, page{})); diff != "" {
			t.Errorf("parse(%s %s), the canonical form of %q %q?%q (-original +canonical):\n%s", method2, u2, method, path, query, diff)
		}
	})
}
