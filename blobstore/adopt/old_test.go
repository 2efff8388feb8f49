package adopt_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// oldRegistry writes the objects of a CNCF distribution registry.
type oldRegistry struct {
	t *testing.T
	b drivers.Bucket
}

func newOldRegistry(t *testing.T) *oldRegistry {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &oldRegistry{t, b}
}

// put stores an object in place of one that may be there, as the old registry does.
func (o *oldRegistry) put(key, content string) {
	o.t.Helper()
	if err := o.b.Delete(o.t.Context(), key); err != nil {
		o.t.Fatal(err)
	}
	if _, err := o.b.Create(o.t.Context(), key, drivers.NewBody([]byte(content))); err != nil {
		o.t.Fatal(err)
	}
}

func (o *oldRegistry) layer(repository, content string) digest.Digest {
	o.t.Helper()
	d := digest.FromString(content)
	o.put(catalog.DistributionDataKey(d), content)
	o.link(catalog.DistributionLayers(repository), d, d)
	return d
}

// link writes a link for the digest d that names target.
func (o *oldRegistry) link(prefix string, d, target digest.Digest) {
	o.t.Helper()
	o.put(prefix+d.Algorithm().String()+"/"+d.Encoded()+"/link", target.String())
}

func (o *oldRegistry) manifest(repository, content string, tags ...string) digest.Digest {
	o.t.Helper()
	d := digest.FromString(content)
	o.put(catalog.DistributionDataKey(d), content)
	o.link(catalog.DistributionRevisions(repository), d, d)
	for _, tag := range tags {
		o.tag(repository, tag, d)
	}
	return d
}

func (o *oldRegistry) tag(repository, tag string, d digest.Digest) {
	o.t.Helper()
	at := catalog.DistributionTags(repository) + tag
	o.put(at+"/current/link", d.String())
	o.link(at+"/index/", d, d)
}

// image returns an image manifest of a config and layers. Without a media type, subject or
// layers these fields are left out.
func image(mediaType string, subject, config digest.Digest, layers ...digest.Digest) string {
	type fields = map[string]any
	describe := func(d digest.Digest) fields {
		return fields{"mediaType": "application/vnd.example", "digest": d, "size": 1}
	}
	doc := fields{"schemaVersion": 2, "config": describe(config)}
	if mediaType != "" {
		doc["mediaType"] = mediaType
	}
	if subject != "" {
		doc["subject"] = describe(subject)
	}
	var all []fields
	for _, d := range layers {
		all = append(all, describe(d))
	}
	doc["layers"] = all
	return encode(doc)
}

// index returns an index of manifests, without a media type of its own.
func index(children ...digest.Digest) string {
	type fields = map[string]any
	all := []fields{}
	for _, d := range children {
		all = append(all, fields{"mediaType": manifest.MediaTypeImage, "digest": d, "size": 1})
	}
	return encode(fields{"schemaVersion": 2, "manifests": all})
}

func encode(v any) string {
	p, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(p)
}

// sample is a registry with one of everything.
type sample struct {
	config, layer, image, artifact, list digest.Digest
}

func (o *oldRegistry) sample(repository string) sample {
	o.t.Helper()
	var s sample
	s.config = o.layer(repository, "{}")
	s.layer = o.layer(repository, "layer")
	s.image = o.manifest(repository, image(manifest.MediaTypeDockerImage, "", s.config, s.layer), "latest", "v1")
	s.artifact = o.manifest(repository, image("", s.image, s.config))
	s.list = o.manifest(repository, index(s.artifact), "sha256-"+s.image.Encoded())
	return s
}

// tick makes sure that what is written next has a later time.
func tick() { time.Sleep(2 * time.Millisecond) }

func tagOf(n int) string { return fmt.Sprintf("t%d", n) }
