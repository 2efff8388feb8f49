package ocihttp

import (
	"net/http"
	"net/url"
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
	{method: "HEAD", url: "/v2/a/b/c/blobs/" + sha512Hello, want: request{action: actGetBlob, name: "a/b/c", digest: digest.Digest(sha512Hello)}},
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
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(request{})); diff != "" {
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
	set("_state", r.state)
	path := "/v2/" + r.name.Name() + "/blobs/"
	switch r.action {
	case actVersion:
		return http.MethodGet, &url.URL{Path: "/v2/"}
	case actGetBlob:
		return http.MethodGet, &url.URL{Path: path + r.digest.String()}
	case actDeleteBlob:
		return http.MethodDelete, &url.URL{Path: path + r.digest.String()}
	case actStartUpload:
		set("digest", r.digest.String())
		set("mount", r.mount.String())
		set("from", r.from.Name())
		set("digest-algorithm", r.algorithm.String())
		return http.MethodPost, &url.URL{Path: path + "uploads/", RawQuery: q.Encode()}
	case actFinishUpload:
		set("digest", r.digest.String())
	}
	method = map[action]string{actUploadStatus: "GET", actAppendUpload: "PATCH", actFinishUpload: "PUT", actCancelUpload: "DELETE"}[r.action]
	return method, &url.URL{Path: path + "uploads/" + r.upload, RawQuery: q.Encode()}
}

// FuzzParse tests that parse returns only valid names and digests, and that the
// canonical form of a request parses to the same request.
func FuzzParse(f *testing.F) {
	for _, method := range []string{"GET", "POST", "PATCH", "PUT", "DELETE"} {
		f.Add(method, "/v2/", "")
		f.Add(method, "/v2/a/b/blobs/"+sha256Hello, "")
		f.Add(method, "/v2/a/blobs/uploads/", "mount="+sha512Hello+"&from=b&digest-algorithm=sha512&digest="+sha256Hello)
		f.Add(method, "/v2/a/blobs/uploads/"+someUUID, "_state=x&digest="+sha256Hello)
	}
	f.Fuzz(func(t *testing.T, method, path, query string) {
		r, err := parse(method, &url.URL{Path: path, RawQuery: query})
		if err != nil {
			if e := responseTo(err); e.status < 400 || e.status >= 500 {
				t.Errorf("parse(%q %q?%q) = %v, which is answered with %d, want 4xx", method, path, query, err, e.status)
			}
			return
		}
		if r.action != actVersion {
			if _, err := parseName(strings.Split(r.name.Name(), "/")); err != nil {
				t.Errorf("parse(%q %q?%q) has the invalid name %q", method, path, query, r.name)
			}
		}
		for _, d := range []digest.Digest{r.digest, r.mount} {
			if d != "" && d.Validate() != nil {
				t.Errorf("parse(%q %q?%q) has the invalid digest %q", method, path, query, d)
			}
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
		if diff := cmp.Diff(r, again, cmp.AllowUnexported(request{})); diff != "" {
			t.Errorf("parse(%s %s), the canonical form of %q %q?%q (-original +canonical):\n%s", method2, u2, method, path, query, diff)
		}
	})
}
