package blobstore_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Costs that are added to those of a push of a manifest.
const (
	firstInRepository = 2 // reads the marker, and creates it
	unknownLinks      = 1 // reads the manifest
)

// document is a manifest that a client pushes.
type document struct {
	content []byte
	digest  digest.Digest
}

// image returns the manifest of an image. The first of the blobs is the config.
// Further fields are JSON, such as `"subject":{…}`.
func image(blobs []payload, fields ...string) document {
	var refs []string
	for _, p := range blobs {
		refs = append(refs, fmt.Sprintf(`{"mediaType":"application/octet-stream","digest":%q,"size":%d}`, p.digest, p.size))
	}
	fields = append([]string{
		`"schemaVersion":2`, `"mediaType":"application/vnd.oci.image.manifest.v1+json"`,
		`"config":` + refs[0], `"layers":[` + strings.Join(refs[1:], ",") + `]`,
	}, fields...)
	return newDocument(fields...)
}

func newDocument(fields ...string) document {
	content := []byte("{" + strings.Join(fields, ",") + "}")
	return document{content, digest.FromBytes(content)}
}

// index returns an index of these manifests.
func index(children ...document) document {
	var refs []string
	for _, child := range children {
		refs = append(refs, child.descriptor())
	}
	return newDocument(`"schemaVersion":2`, `"mediaType":"application/vnd.oci.image.index.v1+json"`, `"manifests":[`+strings.Join(refs, ",")+`]`)
}

// descriptor returns the JSON of a descriptor of an image.
func (d document) descriptor() string {
	return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d}`, d.digest, len(d.content))
}

// manifests returns the URL of a manifest, by a tag or a digest.
func (c *httpClient) manifests(ref string) string { return "/v2/" + c.repo + "/manifests/" + ref }

// putManifest pushes a manifest by a tag, or by its digest if ref is empty.
func (c *httpClient) putManifest(d document, ref string) {
	c.t.Helper()
	if ref == "" {
		ref = d.digest.String()
	}
	c.do(http.MethodPut, c.manifests(ref), bytes.NewReader(d.content), int64(len(d.content)), http.StatusCreated)
}

// deleteManifest deletes a tag, or a manifest by its digest.
func (c *httpClient) deleteManifest(ref string) {
	c.t.Helper()
	c.do(http.MethodDelete, c.manifests(ref), nil, 0, http.StatusAccepted)
}

// images are the manifests of the operations, and their blobs.
type images struct {
	blobs             []payload
	app, other, child document
	index             document
	signature         document // of app
	bySHA512          document // its layer is named by the sha512
}

func newImages() images {
	blobs := []payload{newPayload(11, 1*kB), newPayload(12, 2*kB), newPayload(13, 3*kB)}
	app := image(blobs)
	return images{
		blobs:     blobs,
		app:       app,
		other:     image(blobs[:2]),
		child:     image(blobs[:1]),
		index:     index(app, image(blobs[:1])),
		signature: image(blobs[:1], `"subject":`+app.descriptor()),
		bySHA512:  image([]payload{blobs[0], blobs[1].sha512()}),
	}
}

// pushBlobs pushes the blobs, so that this replica knows their links.
func (i images) pushBlobs(c *httpClient) {
	c.t.Helper()
	for _, p := range i.blobs {
		c.pushByPut(p)
	}
}

// warm prepares a replica that knows the links of all blobs, and the marker.
func (i images) warm(c *httpClient) {
	c.t.Helper()
	i.pushBlobs(c)
	c.putManifest(i.child, "")
}

// elsewhere prepares a repository in which another replica has pushed the blobs and a
// manifest. This one knows the marker.
func (i images) elsewhere(c *httpClient) {
	c.t.Helper()
	i.warm(c.otherReplica())
	c.putManifest(index(), "")
}

// after returns a function that calls all of these.
func after(steps ...func(c *httpClient)) func(c *httpClient) {
	return func(c *httpClient) {
		for _, step := range steps {
			step(c)
		}
	}
}

// puts returns a function that pushes a manifest by a tag, or by its digest.
func puts(d document, ref string) func(c *httpClient) {
	return func(c *httpClient) { c.putManifest(d, ref) }
}

// there returns a function that calls step at the other replica.
func there(step func(c *httpClient)) func(c *httpClient) {
	return func(c *httpClient) { step(c.otherReplica()) }
}

func (i images) push() protocol {
	all := len(i.blobs)
	return protocol{
		name: "push-manifest",
		text: `PUT of a manifest reads the tag. If a link is not known to this process, it reads the
manifest, which vouches for its blobs if it is there, and otherwise the links. Then it
creates the marker of the repository, the referrers entry, the manifest, and the tag, in
this order.`,
		rows: []operation{
			{name: "new tag", budget: 3, before: i.warm, run: puts(i.app, "v1")},
			{name: "moved tag", budget: 3, before: after(i.warm, puts(i.other, "v1")), run: puts(i.app, "v1")},
			{name: "links not known", budget: 3 + unknownLinks + all, before: i.elsewhere, run: puts(i.app, "v1")},
			{name: "first in the repository", budget: 3 + firstInRepository, before: i.pushBlobs, run: puts(i.app, "v1")},
			{name: "first in the repository, links not known", budget: 3 + unknownLinks + all + firstInRepository, before: there(i.pushBlobs), run: puts(i.app, "v1")},
			{name: "by digest", budget: 1, before: i.warm, run: puts(i.app, "")},
			{name: "by digest with two tags", budget: 5, before: i.warm, run: puts(i.app, i.app.digest.String()+"?tag=a&tag=b")},
			{name: "with a subject", budget: 2, before: i.warm, run: puts(i.signature, "")},
			{name: "with a subject, by a tag", budget: 2 + 2, before: i.warm, run: puts(i.signature, "sig")},
			{name: "layer by sha512", budget: 1 + unknownLinks + 1, run: puts(i.bySHA512, ""),
				before: after(i.warm, func(c *httpClient) { c.pushByPost(i.blobs[1].sha512()) })},
			{name: "index of two images", budget: 3 + unknownLinks + 2, before: after(i.warm, puts(i.app, "")), run: puts(i.index, "v1")},
		},
	}
}

func (i images) pushAgain() protocol {
	return protocol{
		name: "push-manifest-again",
		text: `PUT of a manifest that is there already. It is read first, if this process knows it or
does not know all of its links. Otherwise the create finds it. Its hints list the tags that
may name it: a new tag is added. The tag is written even if it names the manifest already,
because another push may be about to move it on the strength of what it has read.`,
		rows: []operation{
			{name: "same tag", budget: 3, before: after(i.warm, puts(i.app, "v1")), run: puts(i.app, "v1")},
			{name: "same tag, at another replica", budget: 3, before: after(i.elsewhere, there(puts(i.app, "v1"))), run: puts(i.app, "v1")},
			{name: "same tag, at another replica that knows the links", budget: 4,
				before: after(i.warm, there(puts(i.app, "v1"))), run: puts(i.app, "v1")},
			{name: "another tag", budget: 4, before: after(i.warm, puts(i.app, "v1")), run: puts(i.app, "v2")},
			{name: "another tag, at another replica that knows the links", budget: 5,
				before: after(i.warm, there(puts(i.app, "v1"))), run: puts(i.app, "v2")},
			{name: "by digest", budget: 1, before: after(i.warm, puts(i.app, "")), run: puts(i.app, "")},
			{name: "with a subject, by digest", budget: 1 + 3, before: after(i.warm, puts(i.signature, "")), run: puts(i.signature, "")},
			{name: "deleted before", budget: 3 + 2, before: after(i.warm, puts(i.app, "v1"), func(c *httpClient) { c.deleteManifest(i.app.digest.String()) }),
				run: puts(i.app, "v1")},
		},
	}
}

func (i images) deleteManifest() protocol {
	deletes := func(ref string) func(c *httpClient) { return func(c *httpClient) { c.deleteManifest(ref) } }
	byDigest := deletes(i.app.digest.String())
	return protocol{
		name: "delete-manifest",
		text: `DELETE by digest replaces the manifest with a deleted one without bytes: in this moment
the manifest, its tags and its referrers entry disappear. Then it deletes the tags among
the hints that still name the manifest. DELETE of a tag reads the manifest, because a tag
whose manifest was deleted does not exist.`,
		rows: []operation{
			{name: "by digest", budget: 2, before: after(i.warm, puts(i.app, "")), run: byDigest},
			{name: "by digest, with a tag", budget: 2 + 2, before: after(i.warm, puts(i.app, "v1")), run: byDigest},
			{name: "by digest, with two tags, one of which has been moved", budget: 2 + 2 + 1,
				before: after(i.warm, puts(i.app, "v1"), puts(i.app, "v2"), puts(i.other, "v2")), run: byDigest},
			{name: "by tag, warm", budget: 2, before: after(i.warm, puts(i.app, "v1")), run: deletes("v1")},
			{name: "by tag, cold", budget: 3, before: after(i.warm, there(puts(i.app, "v1"))), run: deletes("v1")},
		},
	}
}
