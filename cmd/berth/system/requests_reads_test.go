package system

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// manifestReads are reads of a repository that another berth has pushed to.
func manifestReads() []operation {
	get := func(path string) func(c *meter) {
		return func(c *meter) { c.do(http.StatusOK, http.MethodGet, "/v2/"+c.repo+path, nil, 0) }
	}
	head := func(path string) func(c *meter) {
		return func(c *meter) { c.do(http.StatusOK, http.MethodHead, "/v2/"+c.repo+path, nil, 0) }
	}
	const byTag = "/manifests/v0000"
	return []operation{
		{"GET of a manifest by tag, cold", traced("pull-manifest", "GET by tag, cold"), little, func(c *meter) {
			c = c.ofImage("reads/cold-get", 1, 0)
			c.reset()
			get(byTag)(c)
		}},
		{"HEAD of a manifest by tag, cold", traced("pull-manifest", "HEAD by tag, cold"), little, func(c *meter) {
			c = c.ofImage("reads/cold-head", 1, 0)
			c.reset()
			head(byTag)(c)
		}},
		{"GET or HEAD of a manifest by tag, cached", traced("pull-manifest", "HEAD by tag, cached"), little, func(c *meter) {
			c = c.ofImage("reads/cached", 1, 0)
			get(byTag)(c)
			c.reset()
			head(byTag)(c)
		}},
		{"GET or HEAD of a manifest by digest, cold", traced("pull-manifest", "HEAD by digest, cold"), little, func(c *meter) {
			c = c.ofImage("reads/digest", 1, 0)
			c.reset()
			head("/manifests/" + emptyImage(nil).digest.String())(c)
		}},
		{"GET or HEAD of a manifest by digest, warm", traced("pull-manifest", "GET by digest, warm"), little, func(c *meter) {
			c = c.ofImage("reads/digest", 1, 0)
			head("/manifests/" + emptyImage(nil).digest.String())(c)
			c.reset()
			get("/manifests/" + emptyImage(nil).digest.String())(c)
		}},
		{"list of 1,000 of 1,100 tags", traced("list", "1,000 of 1,200 tags"), some, func(c *meter) {
			c = c.ofImage("reads/tags", 1100, 0)
			c.reset()
			get("/tags/list?n=1000")(c)
		}},
		{"list of 20 referrers, cold", traced("list", "3 referrers, cold") + 17, little, func(c *meter) {
			c = c.ofImage("reads/referrers", 1, 20)
			c.reset()
			get("/referrers/" + emptyImage(nil).digest.String())(c)
		}},
		{"list of 20 referrers, warm", traced("list", "3 referrers, warm"), little, func(c *meter) {
			c = c.ofImage("reads/referrers", 1, 20)
			get("/referrers/" + emptyImage(nil).digest.String())(c)
			c.reset()
			get("/referrers/" + emptyImage(nil).digest.String())(c)
		}},
		{"list of repositories", traced("list", "repositories"), little, func(c *meter) {
			c.reset()
			c.do(http.StatusOK, http.MethodGet, "/v2/_catalog?n=100", nil, 0)
		}},
	}
}

// imageManifest is a manifest and its digest.
type imageManifest struct {
	content []byte
	digest  digest.Digest
}

// emptyConfig is the config of emptyImage
// (https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidance-for-an-empty-descriptor).
const emptyConfig = "{}"

// emptyImage returns an image without layers. Its subject may be nil. Further fields are
// JSON.
func emptyImage(subject *imageManifest, fields ...string) imageManifest {
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	fields = append(fields, `"schemaVersion":2`, fmt.Sprintf(`"mediaType":%q`, mediaType), `"layers":[]`,
		fmt.Sprintf(`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2}`, digest.FromString(emptyConfig)))
	if subject != nil {
		fields = append(fields, fmt.Sprintf(`"subject":{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, subject.digest, len(subject.content)))
	}
	content := []byte("{" + strings.Join(fields, ",") + "}")
	return imageManifest{content, digest.FromBytes(content)}
}

// ofImage returns a client of a repository in which the other berth pushes the empty
// image, with tags and referrers.
func (c *meter) ofImage(repo string, tags, referrers int) *meter {
	c.t.Helper()
	here := *c
	here.repo = repo
	there := here.atPeer()
	config := digest.FromString(emptyConfig)
	there.do(http.StatusCreated, http.MethodPost, there.uploads()+"?digest="+config.String(), strings.NewReader(emptyConfig), 2)
	image := emptyImage(nil)
	for from := 0; from < tags; from += 100 {
		var query []string
		for i := from; i < min(from+100, tags); i++ {
			query = append(query, fmt.Sprintf("tag=v%04d", i))
		}
		there.putManifest(image, "?"+strings.Join(query, "&"))
	}
	for i := range referrers {
		there.putManifest(emptyImage(&image, fmt.Sprintf(`"artifactType":"test/%d"`, i)), "")
	}
	return &here
}

// putManifest pushes a manifest by its digest.
func (c *meter) putManifest(m imageManifest, query string) {
	c.t.Helper()
	req := "/v2/" + c.repo + "/manifests/" + m.digest.String() + query
	c.do(http.StatusCreated, http.MethodPut, req, bytes.NewReader(m.content), int64(len(m.content)))
}
